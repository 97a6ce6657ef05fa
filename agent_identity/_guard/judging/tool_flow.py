"""Information flow of one tool: what its results are, and where the arguments of its calls come from."""

import copy
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, NamedTuple, TypeAlias, cast, final

from agent_identity._common.narrowing import is_array, is_mapping
from agent_identity._flow.choices import ToolWords, properties_of
from agent_identity._flow.declaration import (
    Declaration,
    Leaf,
    Returns,
    checked_returns,
    declared,
    label_of,
    labels_of,
    leaves_of,
)
from agent_identity._flow.destinations import split_destinations
from agent_identity._flow.labels import TRUSTED, UNKNOWN, UNTRUSTED, Label
from agent_identity._flow.provenance import Provenance
from agent_identity._flow.rules import MODEL_KINDS
from agent_identity._guard.calls.arguments import Arguments, plain_copy
from agent_identity._guard.calls.call import NOTHING, Call, CallFlow
from agent_identity._guard.common.failures import safe_message
from agent_identity._guard.judging._kept_values import open_quarantined
from agent_identity._guard.tasks.judged import Arrived, Judged
from agent_identity._guard.tasks.task import Task
from agent_identity._guard.tasks.task_context import Process, Reading, bodies_around
from agent_identity._guard.tasks.task_flow import TaskFlow
from agent_identity._guard.tasks.vault import Kept
from agent_identity._ledger.writer import Entry
from agent_identity._policy.composed import stated_tools
from agent_identity._policy.decision.decision import Decision, Effect
from agent_identity._policy.decision.patterns import check_patterns
from agent_identity._policy.decision.places import Problem
from agent_identity._policy.decision.request import FlowFacts, Policy, Tool
from agent_identity._policy.language.labels import flows_about
from agent_identity._policy.language.stated_flow import StatedFlow
from agent_identity._record.parts import ArgumentOrigin, MarkAfter, MarkCause
from agent_identity._record.schema import Outcome
from agent_identity.errors import ConfigurationError, ContentBlocked, EvidenceError, StateError

Restores: TypeAlias = Mapping[str, str | Sequence[str]]
"""By argument the categories of kept values that may be put into it."""

_FOREIGN_KINDS: Final = frozenset({"mcp", "remote", "retriever"})
_UNCHANGEABLE: Final = (str, bytes, int, float, bool, type(None))
_MAX_ORIGINS: Final = 256
_MAX_NAME: Final = 256
_UNRECORDED: Final = "mark_not_recorded"
_NOTHING: Final = Arrived(TRUSTED, lambda: None, is_source=False)
_LOG: Final = logging.getLogger("agent_identity")

Delivered: TypeAlias = Literal["result", "chunk", "error"]
"""How content reaches the agent."""


@final
@dataclass(frozen=True, slots=True, init=False)
class DeclaredFlow:
    """Flow declarations of a tool in the code; checked when it is made.

    Args:
        returns: See :meth:`Enforcer.tool`.
        destination: See above.
        endorses: See above.
        restores: See above.

    Raises:
        TypeError: Something has another type.
        ValueError: A label, path or name is malformed.
    """

    returns: tuple[tuple[str, Label], ...] | None
    destination: tuple[str, ...]
    endorses: bool
    restores: tuple[tuple[str, tuple[str, ...]], ...]
    choices: tuple[tuple[str, frozenset[object]], ...] = field(compare=False, repr=False)
    parameters: tuple[str, ...] | None = field(compare=False, repr=False)

    def __init__(
        self,
        returns: Returns | None = None,
        destination: str | Sequence[str] | None = None,
        *,
        endorses: bool = False,
        restores: Restores | None = None,
    ) -> None:
        if type(endorses) is not bool:
            raise TypeError(f"endorses is {type(endorses).__name__}; give True or False")
        if endorses and returns is None:
            raise ValueError("endorses=True without returns; say which label the results have")
        object.__setattr__(self, "returns", None if returns is None else checked_returns(returns))
        object.__setattr__(self, "destination", checked_destination(destination))
        object.__setattr__(self, "endorses", endorses)
        object.__setattr__(self, "restores", _checked_restores(restores))
        object.__setattr__(self, "choices", ())
        object.__setattr__(self, "parameters", None)

    def of_tool(self, parameters: Iterable[str] | None, choices: Mapping[str, frozenset[object]]) -> "DeclaredFlow":
        """Return the declarations with what the signature or schema of the tool says.

        Args:
            parameters: The names that it gives to arguments; ``None`` if they are not known.
            choices: The values that it lists, by argument.
        """
        found = copy.copy(self)
        object.__setattr__(found, "choices", tuple(choices.items()))
        object.__setattr__(found, "parameters", None if parameters is None else tuple(parameters))
        return found

    def of_arguments(self, schema: Mapping[str, object] | None) -> "DeclaredFlow":
        """Return the declarations with the names that a server gives to arguments; the values that it lists are data.

        Args:
            schema: The JSON Schema of the arguments; ``None`` if it is unknown.
        """
        return self.of_tool(properties_of(schema), {})

    def knows(self, destination: str) -> bool:
        """Return whether a destination is an argument of the tool, or a member of one, as far as that is known."""
        names = self.parameters
        return names is None or destination in names or destination.partition(".")[0] in names

    def check_parameters(self, tool: str, parameters: Collection[str] | None) -> None:
        """Check that the named arguments are parameters of a function: a misspelled one would judge nothing.

        Args:
            tool: The name of the tool.
            parameters: The names; ``None`` for a function that takes any.

        Raises:
            ConfigurationError: One is not.
        """
        for name in split_destinations(self.destination) if parameters is not None else ():
            known = cast("Collection[str]", parameters)
            if name not in known and name.partition(".")[0] not in known:
                raise ConfigurationError(f"{tool}: destination names {name!r}, which is no parameter; correct the name")
        for name, _ in self.restores if parameters is not None else ():
            if name not in cast("Collection[str]", parameters):
                raise ConfigurationError(f"{tool}: restores names {name!r}, which is no parameter; correct the name")


def _checked_restores(restores: object) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if restores is None:
        return ()
    if not is_mapping(restores):
        raise TypeError(f"restores is {type(restores).__name__}; write a mapping such as {{'iban': 'pii.iban'}}")
    found: list[tuple[str, tuple[str, ...]]] = []
    for name, categories in restores.items():
        try:
            found.append((checked_destination(name)[0], check_patterns(categories, ())))
        except (Problem, TypeError, ValueError):
            raise ValueError(
                "restores is malformed; write arguments with categories of findings, such as {'iban': 'pii.iban'}"
            ) from None
    return tuple(found)


def checked_destination(destination: object) -> tuple[str, ...]:
    """Return the names of the arguments that decide where a call leads, a question mark after those that may be empty.

    Raises:
        TypeError: They are no names.
        ValueError: A name is malformed.
    """
    if destination is None:
        return ()
    if isinstance(destination, str):
        names: tuple[object, ...] = (destination,)
    elif is_array(destination):
        names = tuple(destination)
    else:
        raise TypeError(f"destination is {type(destination).__name__}; give names of arguments, such as ('to',)")
    found = tuple(name for name in names if isinstance(name, str) and _is_name(name))
    if len(found) != len(names) or not found:
        raise ValueError("malformed destination; give names of arguments, such as ('to',)")
    return found


def _is_name(text: str) -> bool:
    return all(text.removesuffix("?").split(".")) and len(text) <= 128 and text.isprintable()


class _Parts(NamedTuple):
    """The parts of a result.

    Attributes:
        label: The label of the result.
        base: What bounds the labels of its parts.
        leaves: Those that are about to be delivered.
        before: Those before obligations changed them; otherwise the same list.
        labels: The declared labels.
        new: Values that were kept out of the result.
        whole: Whether these are all.
    """

    label: Label
    base: Label
    leaves: list[Leaf]
    before: list[Leaf]
    labels: list[Label]
    new: tuple[Kept, ...]
    whole: bool


@final
class ToolFlow:
    """Judges and labels the calls of one tool.

    Args:
        tool: The tool.
        policy: The policy in force; what it states about the tool restricts the code, or raises it where it says so.
        said: What the code declares.

    Attributes:
        declaration: The labels of results, by code and policy together.
        destinations: The arguments that decide where a call leads, each with whether it may be empty.
        endorses: True if results have the declared label whatever the mark is.
    """

    __slots__ = ("_lowest", "_words", "declaration", "destinations", "endorses")

    def __init__(self, tool: Tool, policy: Policy | None, said: DeclaredFlow) -> None:
        otherwise = UNTRUSTED if tool.server is not None or tool.kind in _FOREIGN_KINDS else UNKNOWN
        # What a model answers comes from what it was told, and that is the mark.
        returns = None if said.returns is None else dict(said.returns)
        declaration = declared(returns, TRUSTED if tool.kind in MODEL_KINDS else otherwise)
        of_policy = flows_about(tool.name, tool.server, stated_tools(policy))
        for stated in of_policy:
            if stated.returns:
                more = declared(dict(stated.returns), otherwise if stated.raises else TRUSTED)
                declaration = more if stated.raises else declaration.restricted(more)
        self.declaration: Declaration = declaration
        self._lowest = declaration.lowest
        self.destinations: Final = _destinations_of(said, of_policy)
        self.endorses: Final = said.endorses
        # What a server declares may be a stranger's text.
        self._words = ToolWords(dict(said.choices) if tool.server is None else {}, said.parameters)

    def look(self, call: Call, task: Task, arguments: Arguments) -> FlowFacts | None:
        """Take the mark at which a call is judged, after joining what came back from other processes.

        Returns:
            What the policy may know of it.

        Raises:
            EvidenceError: The change could not be recorded.
            StateError: The shared state cannot be asked.
        """
        flow = task.flow
        if flow is None:
            return None
        flow.refresh()
        for body in bodies_around():  # What they have read so far, they hand to this call before they return it.
            if body.reads is not None:
                label, intent, name = body.reads
                flow.join(label, intent=intent, name=name, cause="read", is_source=label != TRUSTED)
        for kept in open_quarantined(call):
            flow.opened(kept.label or UNTRUSTED, kept.source, call.tool)
        for kept in call.restored:  # A hop beside this one may have read it, so that it is new to this mark.
            label = kept.label or UNTRUSTED
            flow.learned(kept.content, label, kept.source)
            flow.join(label, intent=kept.source, name=call.tool, cause="read", is_source=label != TRUSTED)
        judged = flow.judged(arguments.view, arguments.supplied, self.destinations, self._words)
        call.flow = CallFlow(judged)
        return facts_of(judged)

    def intend(self, call: Call, write: Callable[[Call], bool]) -> bool:
        """Write the intent of a call if the mark of its task is still that of the judgement; return whether it is.

        In monitor mode a call runs whatever was decided, at the mark of now.
        """
        flow = None if call.task is None else call.task.flow
        if flow is None:
            return write(call)
        with flow.lock:
            own = _flow_of(call)
            if own.judged is None:
                own.judged = flow.judged({}, (), {})
            elif call.judgement.enforced == "audit":
                own.judged = own.judged.at(flow)
            return flow.write_at(own.judged, partial(write, call))

    def begins(self, call: Call) -> None:
        """Note what the body of a call may read, for the calls that it makes itself."""
        marker = call.execution.marker
        if marker is not None:
            marker.reads = Reading(self._lowest, call.intent, call.tool)

    def mark(self, call: Call, content: object, cause: Delivered, *, original: object) -> ContentBlocked | None:
        """Label content before it is delivered; return its refusal if what it does to the mark cannot be recorded.

        What is withheld lowers the mark as well: that there was something to withhold says something.

        Args:
            call: The call.
            content: The content that is delivered or withheld, or the error of the body.
            cause: How it reaches the agent. The result or error of a call lowers the mark with its outcome, which
                follows before the delivery: :meth:`conclude` or :meth:`catch_up` writes it.
            original: The content as the body returned it; another object if obligations changed it.
        """
        flow = None if call.task is None else call.task.flow
        if flow is None or _is_left(call):
            return None
        if cause == "error":
            failed = flow.guarded(partial(self.deliver_error, call, flow))
        else:
            failed = flow.guarded(partial(self.deliver, call, flow, content, cause, original=original))
        return None if failed is None else _unrecorded(call)

    def conclude(self, call: Call, outcome: partial[Outcome], append: Callable[[partial[Outcome]], Entry]) -> Entry:
        """Write the outcome of a call, which lowers the mark of its task if the result does.

        Args:
            call: The call.
            outcome: Makes the outcome.
            append: Writes it.

        Raises:
            ContentBlocked: The mark could not be lowered, so that the result must not be delivered. With a
                ``reference`` the outcome may be on record all the same, and there must be no other.
            EvidenceError: The outcome could not be recorded; the mark covers the result, or monitor mode returns it.
        """
        flow, of_call = None if call.task is None else call.task.flow, call.flow
        if flow is None or of_call is None or of_call.label is None or call.intent is None:
            return append(outcome)
        arrived, of_call.arrived = of_call.arrived or _NOTHING, None
        written = list[Entry]()

        def write(after: MarkAfter | None) -> Entry:
            written.append(append(partial(outcome, mark_after=after)))
            return written[0]

        changes = flow.shared.mark.changes(arrived.label, call.intent if arrived.is_source else None)
        try:
            flow.conclude(call.intent, arrived, name=call.tool, write=write)
            flow.hand_up()
        except Exception as error:
            uncertain = error.reference if isinstance(error, EvidenceError) else None
            reference = written[0].id if written else uncertain
            withheld = flow.enforces and (changes or not isinstance(error, EvidenceError | StateError))
            if reference is None and (not withheld or _is_unrecorded(call)):
                return append(partial(outcome, mark_after=flow.after))
            if not withheld:
                raise
            _LOG.error("the mark of a task could not be recorded: %s", safe_message(error))
            raise _unrecorded(call, reference) from None
        return written[0]

    def catch_up(self, call: Call) -> ContentBlocked | None:
        """Lower the mark by a record of its own if the outcome of a call was written elsewhere, or not at all.

        Returns:
            The refusal of the result, if that could not be recorded.
        """
        flow, of_call = None if call.task is None else call.task.flow, call.flow
        if flow is None or of_call is None or of_call.arrived is None:
            return None
        arrived, of_call.arrived = of_call.arrived, None
        return None if flow.guarded(partial(_join, call, flow, arrived, "read")) is None else _unrecorded(call)

    def deliver(self, call: Call, flow: TaskFlow, content: object, cause: Delivered, *, original: object) -> None:
        """Label what a call returns; nothing may be delivered before what that does to the mark is on record.

        Args:
            call: The call.
            flow: The flow of its task.
            content: What is about to be delivered.
            cause: See :meth:`mark`.
            original: The content as the body returned it; ``None`` carries nothing, unless the call hides what it
                returns, or the body may have put it into an object that it got by reference. A changed content is no
                better than its original: it still depends on every part of that.

        Raises:
            EvidenceError: The mark could not be recorded.
            StateError: The shared state cannot be asked.
        """
        of_call = _flow_of(call)
        if original is None and not of_call.hidden and not _shares_objects(call):
            return
        flow.refresh()
        flow.gather()
        base, (leaves, whole) = self._base(call, of_call, flow), _parts_of(content)
        own, labels = labels_of(self.declaration, leaves, whole=whole)
        before = leaves
        if content is not original:
            before, all_before = _parts_of(original)
            own = own.meet(label_of(self.declaration, before, whole=all_before))
            whole = whole and all_before
        label = own.meet(base)
        is_source = own.meet(of_call.limit) != TRUSTED or call.route is not None
        new = () if call.handles is None else call.handles.take()
        parts = _Parts(label, base, leaves, before, labels, new, whole=whole)
        arrived = Arrived(label, partial(self._learn, call, flow, parts), is_source=is_source)
        self._arrive(call, of_call, flow, arrived, ends=cause == "result")

    @staticmethod
    def _arrive(call: Call, of_call: CallFlow, flow: TaskFlow, arrived: Arrived, *, ends: bool) -> None:
        """Lower the mark now, or leave that to the outcome of the call, which follows."""
        of_call.returned(arrived.label)
        if ends and call.intent is not None:
            of_call.arrived = arrived
        else:
            _join(call, flow, arrived, "read" if ends else "chunk")

    def _learn(self, call: Call, flow: TaskFlow, parts: _Parts) -> None:
        """Know the values of a result."""
        label, base, leaves, before = parts.label, parts.base, parts.leaves, parts.before
        index, last = flow.shared.index, call.intent or flow.shared.last or ""
        # A repeated value has a known source, or was made up and is unknown; neither changes a label below trusted.
        echoes = base.integrity == "trusted" or (before is not leaves and base.integrity != "untrusted")
        given = _given_to(call) if echoes else ()
        # A changed echo is not recognized by its value.
        changed = base if before is leaves else base.meet(_label_of(index.weakest_of(given)))
        values = [value for _, value in leaves]
        limits = self._limits(leaves, before, base, changed)
        index.take(zip(values, _met(parts.labels, limits), strict=True), last, given)
        if not parts.whole and label.integrity != "trusted":
            index.miss()
        for kept in parts.new:
            kept.label, kept.source = kept.label or label, kept.source or call.intent
            index.take(((value, label) for value in (kept.handle, kept.content)), last, given)

    def _limits(self, leaves: list[Leaf], before: list[Leaf], base: Label, changed: Label) -> list[Label]:
        """Return the upper limit of each part's label, because obligations never improve a label."""
        if before is leaves:
            return [base] * len(leaves)
        if [steps for steps, _ in leaves] != [steps for steps, _ in before]:
            # Obligations may have moved parts to paths with better labels.
            return [label_of(self.declaration, before, whole=True).meet(changed)] * len(leaves)
        return [
            base if value is original or value == original else changed
            for (_, value), (_, original) in zip(leaves, before, strict=True)
        ]

    def deliver_error(self, call: Call, flow: TaskFlow) -> None:
        """Join the mark for the error of a body, whose text may say anything that the body has seen.

        Raises:
            EvidenceError: The mark could not be recorded.
            StateError: The shared state cannot be asked.
        """
        flow.refresh()
        flow.gather()
        of_call = _flow_of(call)
        label = self._lowest.meet(self._base(call, of_call, flow))
        learn = _NOTHING.learn if label.integrity == "trusted" else flow.shared.index.miss
        self._arrive(call, of_call, flow, Arrived(label, learn), ends=True)

    def _base(self, call: Call, of_call: CallFlow, flow: TaskFlow) -> Label:
        """Return what a label is met with: the mark at the intent, and the arguments; a handler in place of the body.

        An argument of unknown provenance comes from something that the agent has seen, of which the mark is the meet.
        The body may also return what hops beside this one have read since, as in a file.
        """
        limit, judged = of_call.limit, of_call.judged
        base = limit if call.route is None else limit.meet(UNKNOWN)
        if self.endorses and call.route is None:
            return base
        if judged is None:
            return base.meet(UNTRUSTED)
        base = base.meet(flow.shared.beside)
        for origin in judged.args.values():
            if origin.provenance == "untrusted":
                base = base.meet(UNTRUSTED)
        return base.meet(judged.mark.label)


def _destinations_of(said: DeclaredFlow, of_policy: Iterable[StatedFlow]) -> dict[str, bool]:
    """Return the destinations of a tool, each with whether it may be empty; one that is no argument may not."""
    found = split_destinations(said.destination)
    for stated in of_policy:
        for name, optional in split_destinations(stated.destination or ()).items():
            found[name] = optional and found.get(name, True)
    return {name: optional and said.knows(name) for name, optional in found.items()}


def _join(call: Call, flow: TaskFlow, arrived: Arrived, cause: MarkCause) -> None:
    """Lower the mark by a record of its own, and know the values."""
    with flow.lock:
        flow.join(arrived.label, intent=call.intent, name=call.tool, cause=cause, is_source=arrived.is_source)
        arrived.learn()


def _is_unrecorded(call: Call) -> bool:
    return call.denial is not None and call.denial.code == _UNRECORDED


def _unrecorded(call: Call, reference: str | None = None) -> ContentBlocked:
    """Return the refusal of content whose mark could not be recorded.

    Args:
        call: The call.
        reference: The outcome that may be on record all the same.
    """
    why = f"{call.tool}: withheld, because what it does to the task could not be recorded"
    decision = Decision(effect=Effect.BLOCK, reason=_UNRECORDED)
    return ContentBlocked(why, code=_UNRECORDED, decision=decision, reference=reference)


def _is_left(call: Call) -> bool:
    """Return whether this process was forked from the body of a call, and leaves call and mark to its parent."""
    return call.intent is not None and call.execution.home is not Process.here


def _shares_objects(call: Call) -> bool:
    """Return whether a body got an object by reference, such as the state of a graph, which it can have changed."""
    arguments = call.snapshot
    return arguments is not None and any(
        not isinstance(arguments.values.get(name), _UNCHANGEABLE) for name in arguments.opaque
    )


def _flow_of(call: Call) -> CallFlow:
    if call.flow is None:
        call.flow = CallFlow()
    return call.flow


def _given_to(call: Call) -> list[object]:
    """Return what stood in the arguments of a call, which is no better in its result."""
    leaves, _ = leaves_of(dict(NOTHING if call.snapshot is None else call.snapshot.view))
    return [value for _, value in leaves]


def _label_of(weakest: Provenance | None) -> Label:
    """Return the label of content that may repeat any of several values, of which this is the weakest provenance."""
    return UNTRUSTED if weakest == "untrusted" else UNKNOWN if weakest == "unknown" else TRUSTED


def _met(labels: Iterable[Label], limits: Iterable[Label]) -> Iterator[Label]:
    """Yield the meet of each label with its limit; usually this is the label itself."""
    last: tuple[Label, Label] | None = None
    met = TRUSTED
    for pair in zip(labels, limits, strict=True):
        if pair != last:
            last, met = pair, pair[0].meet(pair[1])
        yield met


def _parts_of(content: object) -> tuple[list[Leaf], bool]:
    """Return the parts of a result, and whether these are all; of one that is no JSON, none."""
    if type(content) is str:
        return [((), content)], True
    plain = plain_copy(content)
    return ([], False) if plain is None else leaves_of(plain)


def facts_of(judged: Judged) -> FlowFacts:
    """Return what a policy may know of the mark and of the arguments."""
    label = judged.mark.label
    return FlowFacts(
        label.integrity,
        ("public",) if label.readers is None else tuple(sorted(label.readers)),
        judged.mark.names,
        {name: origin.provenance for name, origin in judged.args.items()},
        {name: origin.provenance for name, origin in judged.destinations.items()},
    )


def origins_of(judged: Judged) -> tuple[ArgumentOrigin, ...] | None:
    """Return the member of an intent about where its arguments come from."""
    origins = {**judged.destinations, **judged.args, **judged.destinations}
    found = [
        ArgumentOrigin(
            argument=name,
            provenance=origin.provenance,
            source=origin.source or None,
            destination=True if name in judged.destinations else None,
        )
        for name, origin in origins.items()
        if len(name) <= _MAX_NAME
    ]
    return tuple(found[:_MAX_ORIGINS]) or None
