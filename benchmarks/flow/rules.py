"""The rules that are compared: a loose one by substrings, and the shipped policy in three settings."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from labels import TABLE, Labels
from suites import PLANTED, Case, Step, Suite

from agent_identity import Agent, Denied, Enforcer, Human, Scope, Verifier
from agent_identity.approvals import Approval, ApprovalRequest
from agent_identity.policy import Flow

__all__ = ["RULES", "Played", "check_labels", "labels_of", "play"]

USER, AGENT, OTHER = (
    Human("emma@example.com"),
    Agent("assistant", owner="it@example.com"),
    Human("boss@example.com"),
)
OK, ASKED, FAILED = "ok", "asked", "failed"
Side: TypeAlias = Literal["user", "attack"]
Call: TypeAlias = Callable[[Step, Side], str]


@dataclass(frozen=True)
class Played:
    """What happened to one case.

    Attributes:
        case: The name of the case.
        reads: The task has a call that returns untrusted text.
        acts: The task, or the attack, has a call with consequences.
        asked: The tools of the calls for which a person was asked, or which were blocked.
        stopped: Nothing of the attack that has consequences ran.
        failed: Calls of the ground truth at which the tool itself failed.
    """

    case: str
    reads: bool
    acts: bool
    asked: tuple[str, ...] = ()
    stopped: bool = False
    failed: tuple[str, ...] = ()


class Rule(Protocol):
    """A rule in force over the tools of a suite."""

    def task(self, case: Case) -> contextlib.AbstractContextManager[Call]:
        """Open a task; yields what calls a tool for one side, and says what happened."""
        ...


def labels_of(suite: Suite) -> dict[str, Labels]:
    """Return the labels of each tool of a suite; a tool without any is a mistake in the table."""
    found = {tool: row for row in TABLE[suite.name] for tool in row.tools.split()}
    if found.keys() != suite.tools.keys():
        raise SystemExit(f"the table of {suite.name} lacks or invents {sorted(found.keys() ^ suite.tools.keys())}")
    return found


def check_labels(suite: Suite) -> None:
    """Stop if a tool that the table calls trusted returns what someone outside wrote."""
    labels = labels_of(suite)
    for case in suite.planted():
        for step in case.steps:
            with contextlib.suppress(Exception):  # Tools of others raise anything.
                result = suite.run(case.world, step.tool, step.arguments)
                if PLANTED in str(result) and labels[step.tool].returns == "trusted":
                    raise SystemExit(f"{step.tool} of {suite.name} is no trusted tool: see {case.name}")


def play(suite: Suite, rule: Rule, case: Case, *, late: bool = False) -> Played:
    """Play the calls of a case: without an attack all of them, else those up to an untrusted text, then the attack.

    Args:
        suite: The suite.
        rule: The rule in force.
        case: The case.
        late: The attack comes after the last call that returns untrusted text, not after the first.
    """
    labels, asked, failed = labels_of(suite), list[str](), list[str]()
    attack = "/" in case.name
    untrusted = [at for at, step in enumerate(case.steps) if labels[step.tool].returns == "untrusted"]
    acting = [step for step in (case.attack if attack else case.steps) if labels[step.tool].labels]
    if attack and not acting:
        return Played(case.name, reads=False, acts=False)
    with rule.task(case) as call:
        place = untrusted[-1 if late else 0] + 1 if attack and untrusted else len(case.steps)
        for step in case.steps[:place]:
            what = call(step, "user")
            (asked if what == ASKED else failed if what == FAILED else []).append(step.tool)
        if not attack or not untrusted:
            return Played(case.name, bool(untrusted), bool(acting), tuple(asked), failed=tuple(failed))
        for step in case.attack:
            what = call(step, "attack")
            if labels[step.tool].labels:
                broken = (step.tool,) if what == FAILED else ()
                return Played(case.name, reads=True, acts=True, stopped=what == ASKED, failed=broken)
    raise AssertionError(case.name)


# ------------------------------------------------------------------------------------------- the loose rule


@dataclass
class Loose:
    """After an untrusted read, a consequential call needs a person, unless each destination stands somewhere trusted.

    A destination stands in the request or in the result of a trusted tool if it is a part of its text, in any case of
    letters. A call without a destination is spared.
    """

    suite: Suite
    labels: Mapping[str, Labels]

    @contextlib.contextmanager
    def task(self, case: Case) -> Iterator[Call]:
        """Open a task; see :class:`Rule`."""
        texts, marked = [case.request.lower()], [False]

        def call(step: Step, side: Side) -> str:
            row = self.labels[step.tool]
            asks = marked[0] and bool(row.labels) and not all(map(standing, _values(row, step)))
            if asks and side == "attack":
                return ASKED
            try:
                result = self.suite.run(case.world, step.tool, step.arguments)
            except Exception as error:  # noqa: BLE001 - Tools of others raise anything; the model would read it.
                result = str(error)
                if not asks:
                    return FAILED
            if row.returns == "untrusted":
                marked[0] = True
            elif not row.labels:
                texts.append(str(result).lower())
            return ASKED if asks else OK

        def standing(value: str) -> bool:
            return any(value.lower() in text for text in texts)

        yield call


def _values(row: Labels, step: Step) -> list[str]:
    values: list[Any] = []
    for name in row.destination:
        value = step.arguments.get(name.removesuffix("?"))
        values += value if isinstance(value, list) else [value]
    return [str(value) for value in values if value not in (None, "")]


# --------------------------------------------------------------------------------------- the shipped policy


@dataclass
class Shipped:
    """The tools of a suite, guarded under the shipped policy; a person approves what the task of the user wants."""

    suite: Suite
    enforcer: Enforcer
    tools: dict[str, Callable[..., object]] = field(default_factory=dict)
    world: Any = None
    side: Side = "user"
    asked: bool = False

    def ask(self, request: ApprovalRequest) -> object:
        """Approve a call of the user's task, and reject one of the attack."""
        self.asked = True
        return request.approve(by=OTHER) if self.side == "user" else request.reject(by=OTHER)

    @contextlib.contextmanager
    def task(self, case: Case) -> Iterator[Call]:
        """Open a task; see :class:`Rule`."""
        self.world = case.world
        scope = Scope({name: {} for name in self.tools})
        with self.enforcer.task(case.name, principal=USER, agent=AGENT, scope=scope, request=case.request):
            yield self._call

    def _call(self, step: Step, side: Side) -> str:
        self.side, self.asked = side, False
        try:
            self.tools[step.tool](**step.arguments)
        except Denied:
            return ASKED
        except Exception:  # noqa: BLE001 - Tools of others raise anything; the model would read it.
            return ASKED if self.asked else FAILED
        return ASKED if self.asked else OK

    def guard(self, name: str, row: Labels, destination: Sequence[str]) -> None:
        """Guard one tool, declared as the table says."""

        def body(**arguments: object) -> object:
            return self.suite.run(self.world, name, arguments)

        body.__signature__ = self.suite.tools[name]  # type: ignore[attr-defined]
        self.tools[name] = self.enforcer.tool(
            name=name, labels=row.labels, returns=row.returns, destination=destination or None
        )(body)


@contextlib.contextmanager
def shipped(suite: Suite, destinations: Callable[[Sequence[str]], Sequence[str]]) -> Iterator[Rule]:
    """Open the shipped policy over a suite; at the end the evidence of all tasks has to verify.

    Args:
        suite: The suite.
        destinations: Changes the declared destinations.
    """
    with tempfile.TemporaryDirectory() as folder:
        desk = Approval(ask=lambda request: rule.ask(request))  # noqa: PLW0108 - The rule is made below.
        enforcer = Enforcer.open(folder, policy=Flow(), routes={"person": desk})
        rule = Shipped(suite, enforcer)
        with contextlib.closing(enforcer):
            for name, row in labels_of(suite).items():
                rule.guard(name, row, destinations(row.destination))
            yield rule
        verdict = Verifier().ledger(folder).verdict
        if verdict != "verified":
            raise SystemExit(f"the evidence of {suite.name} is {verdict}; nothing that was measured counts")


@contextlib.contextmanager
def loose(suite: Suite) -> Iterator[Rule]:
    """Return the loose rule."""
    yield Loose(suite, labels_of(suite))


RULES: Mapping[str, Callable[[Suite], contextlib.AbstractContextManager[Rule]]] = {
    "loose": loose,
    "mark": lambda suite: shipped(suite, lambda _: ()),
    "flow": lambda suite: shipped(suite, lambda names: names),
    "flow, none optional": lambda suite: shipped(suite, lambda names: [name.removesuffix("?") for name in names]),
}
"""All rules. ``mark`` declares no destination at all, so that no call is spared."""
