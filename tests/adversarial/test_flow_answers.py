"""Signed marks in answers: services without a shared state say what they have read, and nobody else can say it."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.trace import TracerProvider

from agent_identity import Agent, Enforcer, Human, Scope, Verifier, records
from agent_identity._authority.grants.signed_marks import SignedMark, sign_mark, verify_mark
from agent_identity._guard.tasks.task_flow import Flows
from agent_identity.delegation import DelegationBundle, Grants, Peer
from agent_identity.errors import EvidenceError, Routed, TokenError
from agent_identity.identity import SigningKey
from agent_identity.options import Telemetry
from agent_identity.policy import Flow
from agent_identity.state import MemoryState

_spec = importlib.util.spec_from_file_location("flow_worlds", Path(__file__).with_name("flow_worlds.py"))
assert _spec is not None
assert _spec.loader is not None
flow = sys.modules.setdefault("flow_worlds", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(flow)

EVIL, OWN, REQUEST = flow.EVIL, flow.OWN, flow.REQUEST
EVERYTHING = Scope({name: {} for name in ("pay", "read", "other")})
CALL: dict[str, Any] = {"tool": "read", "arguments": {}}
KEY, OTHER = SigningKey.from_seed(b"\x09" * 32), SigningKey.from_seed(b"\x0a" * 32)
PEER = Peer("service-b", agent=Agent("desk", owner="x@example.com"), key=KEY.public_key)


class Office:
    """Two enforcers that trust the same issuer, and share no state."""

    def __init__(self, folder: Path) -> None:
        self.directory, self.ran = folder / "evidence", list[object]()
        self.enforcer, self.child = self._open(), self._open()

    def _open(self) -> Enforcer:
        telemetry = Telemetry(tracer_provider=TracerProvider())
        return Enforcer.open(self.directory, policy=Flow(), telemetry=telemetry, state=MemoryState())

    def task(self) -> Any:
        """Return a task of alice and the clerk."""
        clerk = Agent("clerk", owner="finance@example.com")
        return self.enforcer.task(
            "books", principal=Human("alice@example.com"), agent=clerk, scope=EVERYTHING, request=REQUEST
        )

    def answers(self, shown: Any, body: Callable[[], object] = lambda: None, *, holder: Any = KEY) -> str | None:
        """Have the service run a body for a call, and return the mark that it signs."""
        opening = self.child.receive(shown, **CALL, audience="service-b", holder=holder)
        with self.enforcer.no_task(), opening as task:
            body()
            return task.sign_mark()

    def present(self) -> Any:
        """Return the authority for one call of the service."""
        return self.enforcer.present(PEER, **CALL)

    def codes(self) -> set[str]:
        """Close all, and return what the verifier finds."""
        self.child.close()
        self.enforcer.close()
        return flow.codes(Verifier().ledger(self.directory))


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    found = Office(tmp_path)
    yield found
    found.child.close()
    found.enforcer.close()


def child_reads(office: Office, content: object = EVIL, **options: Any) -> Callable[..., object]:
    """Return a tool of the child that returns a content."""

    @office.child.tool(**{"name": "read", "labels": [], "returns": "untrusted", **options})
    def read() -> object:
        return content

    return read


def test_a_service_that_signs_its_mark_is_believed(office: Office) -> None:
    """A service that read nothing of others leaves the task as it was; one that did lowers it."""
    pay, read = flow.pays(office), child_reads(office)
    with office.task() as task:
        shown = office.present()
        assert task.take_mark(shown, office.answers(shown))
        pay(EVIL)
        shown = office.present()
        assert task.take_mark(shown, office.answers(shown, read))
        with pytest.raises(Routed):
            pay(EVIL)
    assert flow.paid(office) == [EVIL]
    answers = [one.mark for one in flow.of_kind(office, records.Mark) if one.mark.cause == "answer"]
    assert [(one.label, one.token is not None, one.origin is not None) for one in answers] == [
        ("trusted", True, True),
        ("untrusted", True, True),
    ]
    assert office.codes() == set()


def test_a_service_begins_at_the_signed_mark_of_its_caller(office: Office) -> None:
    """What the caller had read, the service has read; a mark that was left out or moved makes it unknown."""
    read = flow.reads(office, EVIL, returns="untrusted")
    with office.task():
        before = office.present()
        office.answers(before)
        read()
        after = office.present()
        moved = type(after)(after.tokens, after.proof, after.onward, before.mark)
        office.answers(moved)
        bare = office.present()
        office.answers(type(bare)(bare.tokens, bare.proof, bare.onward))
    accepted = [one.mark.label for one in flow.of_kind(office, records.Mark) if one.mark.cause == "accept"]
    assert accepted == ["trusted", "unknown"]


def test_a_child_process_signs_its_mark(office: Office) -> None:
    """Bundles and grants carry the mark there, also as text, and the child's mark comes back with its answer."""
    pay, read = flow.pays(office), child_reads(office)
    with office.task() as task:
        for export in (task.export, partial(task.export, to=KEY.public_key, audience="child")):
            handed = export()
            copy = type(handed).from_text(handed.to_text())
            options = {} if isinstance(copy, DelegationBundle) else {"holder": KEY, "audience": "child"}
            with office.enforcer.no_task(), office.child.accept(copy, **options) as part:
                mark = part.sign_mark()
            assert task.take_mark(handed, mark)
            pay(EVIL)
        bundle = task.export()
        with office.enforcer.no_task(), office.child.accept(bundle) as part:
            early = part.sign_mark()
            read()
            late = part.sign_mark()
        assert task.take_mark(bundle, late)
        assert not task.take_mark(bundle, early)
        with pytest.raises(Routed):
            pay(EVIL)
    assert flow.paid(office) == [EVIL, EVIL]
    assert office.codes() == set()


@pytest.mark.parametrize("mark", [None, "no.mark", "\u00e9"])
def test_a_later_answer_without_its_mark_is_untrusted(office: Office, mark: str | None) -> None:
    """A part that answers more than once is not trusted for what it said before."""
    pay, read = flow.pays(office), child_reads(office)
    with office.task() as task:
        bundle = task.export()
        with office.enforcer.no_task(), office.child.accept(bundle) as part:
            assert task.take_mark(bundle, part.sign_mark())
            read()
        assert not task.take_mark(bundle, mark)
        with pytest.raises(Routed):
            pay(EVIL)
    assert office.codes() == set()


def test_a_mark_that_comes_twice_for_one_call_changes_nothing(office: Office) -> None:
    """The call has its answer: an integration and its host may both take it."""
    pay = flow.pays(office)
    with office.task() as task:
        shown = office.present()
        mark = office.answers(shown)
        assert task.take_mark(shown, mark)
        assert not task.take_mark(shown, mark)
        pay(EVIL)
    assert office.codes() == set()


def forged(office: Office, shown: Any, way: str) -> str | None:
    """Return a mark that does not count."""
    mark = office.answers(shown, holder=None if way == "unsigned" else KEY)
    if mark is None:
        return None
    claims = verify_mark(mark, KEY.public_key)
    changes = {
        "other key": (OTHER, {}),
        "other call": (KEY, {"call": "0"}),
        "other grant": (KEY, {"grant": "A" * 43}),
        "other signer": (KEY, {"by": claims.grant}),
        "no label": (KEY, {"label": "best"}),
        "no number": (KEY, {"seq": "x"}),
        "no mark": (KEY, {}),
    }
    key, change = changes[way]
    return "no.mark" if way == "no mark" else sign_mark(key, claims._replace(**change))


@pytest.mark.parametrize(
    "way",
    [
        *("unsigned", "other key", "other call", "other grant", "other signer", "no label", "no number", "no mark"),
    ],
)
def test_a_mark_that_does_not_count_leaves_the_answer_untrusted(office: Office, way: str) -> None:
    """Missing, unsigned, moved or malformed: what came back is untrusted."""
    pay = flow.pays(office)
    with office.task() as task:
        shown = office.present()
        assert not task.take_mark(shown, forged(office, shown, way))
        with pytest.raises(Routed):
            pay(EVIL)


def test_an_answer_is_missing_until_it_comes(office: Office) -> None:
    """A replayed mark of an earlier call does not stand for a later one."""
    pay = flow.pays(office)
    with office.task() as task:
        first = office.present()
        mark = office.answers(first)
        assert task.take_mark(first, mark)
        second = office.present()
        assert not task.take_mark(second, mark)
        assert not task.take_mark(first, mark)
        with pytest.raises(Routed):
            pay(EVIL)


def test_too_many_missing_answers_end_the_trust_in_a_hop(office: Office) -> None:
    """Their number is bounded, and fails closed."""
    with office.task() as task:
        for _ in range(65):
            shown = office.present()
        assert not task.take_mark(shown, office.answers(shown))


def test_authority_of_another_task_has_no_answer(office: Office) -> None:
    """A mark counts for the task that handed out the authority."""
    with office.task():
        shown = office.present()
        mark = office.answers(shown)
    with office.task() as task:
        assert not task.take_mark(shown, mark)
        assert task.sign_mark() is None
        assert not task.take_mark(Grants(shown.tokens), mark)
        assert not task.take_mark(type(shown)(shown.tokens, "no.proof"), mark)


def test_an_answer_that_cannot_be_recorded_does_not_count(office: Office) -> None:
    """Whoever takes the mark hears of it, and the mark counts as before."""
    pay, append = flow.pays(office), Flows.record

    def failing(self: Flows, facts: Any, change: Any) -> Any:
        if change.cause == "answer":
            raise EvidenceError("the disk is full")
        return append(self, facts, change)

    with office.task() as task:
        shown = office.present()
        mark = office.answers(shown)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Flows, "record", failing)
            with pytest.raises(EvidenceError):
                task.take_mark(shown, mark)
        with pytest.raises(Routed):
            pay(EVIL)


@pytest.mark.parametrize("way", ["other label", "other token", "no token", "other origin"])
def test_an_edited_answer_contradicts(office: Office, way: str) -> None:
    """The verifier checks the signature against the grant, and the label against what was signed."""
    read, append = child_reads(office), Flows.record

    def edited(self: Flows, facts: Any, of: Any) -> Any:
        changes: dict[str, Any] = {
            "other label": {"joined": None, "label": "trusted"},
            "other token": {"token": sign_mark(OTHER, verify_mark(of.token or "", KEY.public_key))} if of.token else {},
            "no token": {"token": None},
            "other origin": {"origin": of.hop},
        }
        return append(self, facts, msgspec.structs.replace(of, **changes[way]) if of.cause == "answer" else of)

    with office.task() as task, pytest.MonkeyPatch.context() as patch:
        shown = office.present()
        mark = office.answers(shown, read)
        patch.setattr(Flows, "record", edited)
        task.take_mark(shown, mark)
    assert "mark_mismatch" in office.codes()


def test_an_answer_whose_grants_are_not_here_is_not_checked(office: Office) -> None:
    """A mark of a grant that the stream does not have is no contradiction, and no proof."""
    append = Flows.record

    def edited(self: Flows, facts: Any, of: Any) -> Any:
        if of.cause != "answer":
            return append(self, facts, of)
        token = sign_mark(OTHER, SignedMark("A" * 43, "call", of.origin or "", "trusted", "1"))
        return append(self, facts, msgspec.structs.replace(of, token=token))

    with office.task() as task, pytest.MonkeyPatch.context() as patch:
        shown = office.present()
        mark = office.answers(shown)
        patch.setattr(Flows, "record", edited)
        task.take_mark(shown, mark)
    assert office.codes() == {"flow_not_checked"}


def test_a_token_of_another_kind_is_no_mark() -> None:
    """Only the claims of a mark are claims of a mark."""
    with pytest.raises(TokenError) as caught:
        verify_mark(sign_mark(KEY, SignedMark("a", "b", "c", "trusted", "1")) + "A", KEY.public_key)
    assert caught.value.code
