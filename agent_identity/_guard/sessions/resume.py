"""Authority from another process: verified from its tokens alone, then opened as a task here.

Only the sender's signatures count, and no application code runs before all checks pass. A refusal is recorded like
that of any call outside a task.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from agent_identity._authority.grants.chain import verify_chain
from agent_identity._authority.grants.grants import Chain
from agent_identity._authority.grants.proof_of_possession import PROOF_WINDOW, verify_proof
from agent_identity._authority.grants.signed_marks import verify_mark
from agent_identity._flow.labels import Label
from agent_identity._guard.common.failures import error_type, failure, safe_message
from agent_identity._guard.common.followed_trust import FollowedTrust
from agent_identity._guard.lifecycle.steps import CallSteps
from agent_identity._guard.sessions.opening import Opening
from agent_identity._guard.sessions.propagation import Presentation
from agent_identity._guard.sessions.tasks import LONGEST_TTL, Tasks
from agent_identity._guard.tasks.delegation_bundle import DelegationBundle, Grants
from agent_identity._guard.tasks.exported_grants import ExportedGrants, RecordedGrants
from agent_identity._guard.tasks.facts import task_facts
from agent_identity._guard.tasks.judged import Carried
from agent_identity._guard.tasks.task import Task
from agent_identity._identity.keys.jws import token_hash
from agent_identity._identity.keys.keys import PublicKey, Signer, SigningKey
from agent_identity._identity.principals.principals import Agent
from agent_identity.errors import AgentIdentityError, AttenuationError, Denied, NoTask, TokenError

_LOG: Final = logging.getLogger("agent_identity")
_NS: Final = 1_000_000_000
_CHALLENGE: Final = b"agent_identity: the holder of this grant resumes its task\n"
_REMEMBERED: Final = 2 * PROOF_WINDOW + 1
"""Seconds that a proof id is remembered: the whole time in which the proof could count."""


@final
@dataclass(frozen=True, slots=True)
class Inbound:
    """Opens tasks of other processes.

    Attributes:
        tasks: The tasks of this process.
        trust: The trusted issuers of root grants.
        recorded: The foreign grants that the stream of this process has.
    """

    tasks: Tasks
    trust: FollowedTrust
    recorded: RecordedGrants

    def accept(
        self, received: DelegationBundle | Grants, holder: Signer | None, audience: str | None, purpose: str
    ) -> Task:
        """Open the task of a chain whose holder key is available."""
        if isinstance(received, DelegationBundle):
            holder = SigningKey.from_seed(received.seed)
        chain = self._verified(received.tokens, audience)
        if holder is None:
            raise _not_the_holder("none")
        _check_possession(chain, holder)
        return self._open(chain, holder, purpose, chain, Carried(chain.leaf.hash, _mark_of(chain, received.mark, None)))

    def receive(  # budget: a call is what all of these say together
        self,
        presentation: Presentation,
        tool: str,
        arguments: Mapping[str, object],
        *,
        audience: str,
        holder: Signer | None,
        agent: Agent | None,
        purpose: str,
    ) -> Task:
        """Open the task of a call with a proof; without a holder key it cannot be delegated here."""
        chain = self._verified(presentation.tokens, audience)
        if chain.audience is None:
            raise TokenError(
                "the grant names no audience; ask the caller for one made for this service", code="wrong_audience"
            )
        now = self._now()
        presented, onward = chain, presentation.onward
        proof_id = verify_proof(
            presentation.proof,
            chain,
            tool=tool,
            arguments=arguments,
            audience=audience,
            now=now,
            next_hash=None if onward is None else token_hash(onward),
        )
        if onward is None or holder is None:
            holder = None
        else:
            chain = self._verified((*chain.tokens[:-1], onward), audience)
            if chain.leaf.holder != holder.public_key:
                raise _not_the_holder("another")
            if agent is not None and chain.leaf.agent != agent:
                raise TokenError(
                    "the grant is for another agent; ask the caller for one to this service's agent", code="wrong_agent"
                )
        # Last, so that only trusted callers can fill the memory of proofs.
        if not self.tasks.enforcement.state.insert(f"proof:{proof_id}", now=now, expires_at=now + _REMEMBERED):
            raise Denied("the proof was used before; make one for each call", code="replay")
        carried = Carried(proof_id, _mark_of(presented, presentation.mark, proof_id))
        return self._open(chain, holder, purpose, presented, carried)

    def opening(
        self,
        guard: CallSteps,
        values: Mapping[str, object],
        make: Callable[[], Task],
        purpose: str,
        traceparent: str | None,
        *,
        once: bool = False,
    ) -> Opening:
        """Return the context manager that opens the task, or records its refusal."""
        return Opening(
            self.tasks.enforcement,
            purpose,
            lambda: self.opened(guard, values, make),
            recorded=self.recorded,
            traceparent=traceparent,
            once=once,
        )

    def opened(self, guard: CallSteps, values: Mapping[str, object], make: Callable[[], Task]) -> Task:
        """Open the task, or record its refusal.

        Raises:
            Denied: The task was refused, with the code of the error.
            EvidenceError: The refusal could not be recorded.
        """
        try:
            return make()
        except Denied as error:
            denied = error
        except AgentIdentityError as error:
            denied = Denied(str(error), code=error.code)
        except Exception as error:  # noqa: BLE001 - Authority fails closed: a defect of ours or of a store refuses.
            _LOG.error("a task of another process could not be opened, it is refused: %s", safe_message(error))
            denied = Denied(failure("the opening of the task", error), code="guard_failed")
        raise guard.refuse(values, denied) from None

    def _now(self) -> int:
        return self.tasks.enforcement.clock.wall_ns() // _NS

    def _verified(self, tokens: Sequence[str], audience: str | None) -> Chain:
        used: list[str] = []

        def anchor(thumbprint: str) -> PublicKey:
            used.append(thumbprint)
            return self.tasks.anchor(thumbprint)

        chain = verify_chain(
            tokens, anchors=anchor, issuer=None, now=self._now(), audience=audience, max_lifetime=LONGEST_TTL
        )
        root = chain.root
        self.trust.now.check_speaker(used[0], root.issuer, {root.principal.kind}, at=root.issued_at)
        return chain

    def _open(self, chain: Chain, holder: Signer | None, purpose: str, presented: Chain, carried: Carried) -> Task:
        leaf = chain.leaf
        self.tasks.enforcement.revocations.check(chain)
        if self.tasks.admission is not None:
            self.tasks.admission.check(chain)
        watch = self._watch(chain, presented)
        if watch():
            raise NoTask("the task has ended; open a new one", code="task_ended")
        lease = self.tasks.registry.resume(
            leaf.task_id, leaf.expires_at * _NS, clock=self.tasks.enforcement.clock, id=leaf.id, watch=watch
        )
        flows = self.tasks.enforcement.flows
        flow = None if flows is None else flows.arrived(leaf, presented.leaf, task_facts(chain.grants), carried)
        return self.tasks.start(purpose, chain, holder, lease, ExportedGrants(None), flow=flow)

    def _watch(self, chain: Chain, presented: Chain) -> Callable[[], bool]:
        """Return the predicate that the task, or a part of it on the way here, has ended where it was opened."""
        grants = dict.fromkeys(grant.id for grant in (*chain.grants[1:], *presented.grants[1:]))
        names = [f"ended:{name}" for name in (chain.root.task_id, *grants)]
        state, revocations = self.tasks.enforcement.state, self.tasks.enforcement.revocations

        def ended() -> bool:
            now = self._now()
            if presented is not chain:  # The presented chain is not part of the continued one.
                revocations.check(presented)
            try:
                return any(state.contains(name, now=now) for name in names)
            except AgentIdentityError as error:
                raise Denied(f"the end of the task cannot be checked: {error}", code=error.code) from None
            except Exception as error:  # noqa: BLE001 - Any failure of a store: an unknown state refuses.
                _LOG.error("the end of a task cannot be checked: %s", safe_message(error))
                raise Denied(
                    f"the end of the task cannot be checked: {error_type(error)}", code="state_unavailable"
                ) from None

        return ended


def _check_possession(chain: Chain, holder: Signer) -> None:
    """Test the key with a signature, since anyone can present another's public key."""
    if holder.public_key != chain.leaf.holder:
        raise _not_the_holder("another")
    challenge = _CHALLENGE + chain.leaf.hash.encode()
    try:
        chain.leaf.holder.verify(holder.sign(challenge), challenge)
    except TokenError:
        raise _not_the_holder("one that does not sign for it") from None


def _not_the_holder(got: str) -> AttenuationError:
    return AttenuationError(
        f"the key is not that of the grant's holder but {got}; pass the holder's key", code="not_the_holder"
    )


def _mark_of(chain: Chain, token: str | None, call: str | None) -> Label | None:
    """Return the mark that whoever handed a chain over has signed; ``None`` without one that counts."""
    if token is None or len(chain.grants) < 2:
        return None
    by, leaf = chain.grants[-2], chain.leaf
    try:
        mark = verify_mark(token, by.holder)
        if (mark.by, mark.call, mark.grant) != (by.hash, call or leaf.hash, leaf.hash):
            return None
        return Label.parse(mark.label)
    except (TokenError, ValueError):
        _LOG.warning("the mark that came with a task of another process does not count")
        return None
