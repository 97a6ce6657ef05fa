"""Names and digests in rulings, where principals have pseudonyms and arguments are disclosable."""

from typing import TypeVar, cast, final

from agent_identity._guard.approvals.refusals import mismatch
from agent_identity._guard.calls.call import Call
from agent_identity._identity.principals.principals import Human, Principal, principal_from_claim
from agent_identity._record.commitments import is_salted
from agent_identity._record.digests import DigestKeys
from agent_identity._record.pseudonyms import Pseudonyms

Party = TypeVar("Party", bound=Principal)


@final
class Names:
    """The two names of people: the real one for people and channels, the pseudonym for rulings and records.

    Args:
        pseudonyms: The pseudonyms, if principals have any.
    """

    def __init__(self, pseudonyms: Pseudonyms | None) -> None:
        self._pseudonyms = pseudonyms

    def named(self, party: Party) -> Party:
        """Return a party as grants, rulings and records name it."""
        return party if self._pseudonyms is None else _renamed(party, self._pseudonyms.of(party.kind, party.id))

    def real(self, approver: Human, tool: str) -> Human:
        """Return the approver of a ruling under the real name.

        Raises:
            Denied: The name was erased meanwhile.
        """
        if self._pseudonyms is None:
            return approver
        known = self._pseudonyms.name_of(approver.id)
        if known is None or known[0] != approver.kind:
            raise mismatch(tool)
        return _renamed(approver, known[1])


def args_of(call: Call, task: str, like: str, digests: DigestKeys) -> str | None:
    """Return the digest of the arguments of a call under the key of another task, of the kind of a known digest."""
    if call.snapshot is None:
        return None
    if is_salted(like):
        return digests.commit(task, call.snapshot.parts())
    return digests.digest(task, call.snapshot.canonical())


def _renamed(party: Party, name: str) -> Party:
    return cast("Party", principal_from_claim({**party.to_claim(), "id": name}))
