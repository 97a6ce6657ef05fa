"""Test support for users of the library: the real enforcer and ledger, with fixed time and ids.

``Rehearsal`` opens both in a directory of the test; with pytest, the fixture ``rehearse`` does. Nothing is mocked: a
test asserts facts from the records. In the library, only the pytest plugin and the command ``demo`` import this
package.
"""

from agent_identity.testing.doubles import FixedClock, SequentialIds
from agent_identity.testing.records import Records
from agent_identity.testing.rehearsal import Rehearsal, Rehearse
from agent_identity.testing.scripted import ScriptedAgent

__all__ = [
    "FixedClock",
    "Records",
    "Rehearsal",
    "Rehearse",
    "ScriptedAgent",
    "SequentialIds",
]
