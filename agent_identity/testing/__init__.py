"""For the tests of those who use the library: the real enforcer and ledger, with nothing in them left to chance.

``Rehearsal`` opens both in a directory of the test; with pytest, the fixture ``rehearse`` does. Nothing is mocked: what
a test asserts, it reads out of the records. Nothing of the library but its pytest plugin imports this package.
"""

from agent_identity.testing.doubles import FixedClock, SequentialIds
from agent_identity.testing.records import RecordedCall, Records
from agent_identity.testing.rehearsal import Rehearsal, Rehearse
from agent_identity.testing.scripted import ScriptedAgent

__all__ = [
    "FixedClock",
    "RecordedCall",
    "Records",
    "Rehearsal",
    "Rehearse",
    "ScriptedAgent",
    "SequentialIds",
]
