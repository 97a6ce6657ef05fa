"""Metrics of an enforcer, by the OpenTelemetry meter that the application has.

No attribute holds an id, a principal, an argument or anything else that grows with use; ``docs/reference/metrics.md``
lists every name, unit and attribute. Metrics are no evidence: the ledger is, and no record waits for them.
"""

import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Final, NamedTuple, TypeAlias, final

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
from opentelemetry.trace import Span, set_span_in_context

from agent_identity._directory.enforcer import Enforcer, Running, running
from agent_identity._guard.calls.call import Call
from agent_identity._guard.common.failures import error_type
from agent_identity._guard.telemetry.foreign_spans import SCOPE, AdoptedSpan
from agent_identity._ledger.writer import Entry
from agent_identity._record.parts import Ending, Time
from agent_identity._record.schema import AnyRecord, Intent, Outcome, TaskEnd, TaskStart
from agent_identity._spans.span_attributes import error_of
from agent_identity._spans.span_from_record import SCHEMA_URL
from agent_identity.errors import ConfigurationError
from agent_identity.version import VERSION

_NO_TOOLS: Final = frozenset({"model", "streamed_model", "prompt", "agent", "handoff"})
"""Kinds of guarded calls that are no tools."""

_MAX_OPEN: Final = 16_384
_TOOL_SECONDS: Final = tuple(0.01 * 2**step for step in range(14))
_AGENT_SECONDS: Final = tuple(0.1 * 2**step for step in range(13))
_CALLS: Final = tuple(2**step for step in range(8))


class Operations(NamedTuple):
    """The histograms of one meter, with the boundaries that the conventions name."""

    tools: "_Record"
    agents: "_Record"
    calls: "_Record"

    @classmethod
    def of(cls, meter: Meter) -> "Operations":
        """Return the histograms of a meter."""
        tools = meter.create_histogram(
            "gen_ai.execute_tool.duration",
            "s",
            "Duration of one execution of a tool.",
            explicit_bucket_boundaries_advisory=_TOOL_SECONDS,
        )
        agents = meter.create_histogram(
            "gen_ai.invoke_agent.duration",
            "s",
            "Duration of one invocation of an agent.",
            explicit_bucket_boundaries_advisory=_AGENT_SECONDS,
        )
        calls = meter.create_histogram(
            "gen_ai.invoke_agent.tool_calls",
            "{tool_call}",
            "Calls of tools in one invocation of an agent.",
            explicit_bucket_boundaries_advisory=_CALLS,
        )
        return cls(tools.record, agents.record, calls.record)


_Record = Callable[[float, dict[str, str], Context], None]


@final
class Invocations:
    """Counts the operations of one enforcer; called where records are sealed, by one thread.

    Args:
        operations: Where they are reported.
        tool: Returns the name of a tool as metrics show it.
        agent: Returns the name of an agent as metrics show it, or nothing.
        known: Returns the class of an error as metrics show it.
    """

    def __init__(
        self,
        operations: Operations,
        *,
        tool: Callable[[str], str],
        agent: Callable[[str], str],
        known: Callable[[str], str],
    ) -> None:
        self._operations = operations
        self._tool, self._agent, self._known = tool, agent, known
        self._open: dict[str, int] = {}

    def count(self, record: AnyRecord) -> None:
        """Count a record."""
        if isinstance(record, Outcome):
            self._executed(record)
        elif isinstance(record, Intent | TaskStart | TaskEnd) and record.chain is not None:
            self._invoked(record, record.chain[-1].grant)

    def _executed(self, record: Outcome) -> None:
        if record.intent is None or record.action.kind in _NO_TOOLS:  # A refused call executes nothing.
            return
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": self._tool(record.action.tool),
            **({"gen_ai.tool.type": "function"} if record.action.kind == "function" else {}),
        }
        self._operations.tools(_seconds(record.time), self._with_error(record, attributes), Context())

    def _invoked(self, record: Intent | TaskStart | TaskEnd, hop: str) -> None:
        if isinstance(record, Intent):
            if hop in self._open and record.action.kind not in _NO_TOOLS:
                self._open[hop] += 1
        elif isinstance(record, TaskStart):
            if len(self._open) < _MAX_OPEN:  # Of the others, the calls are not known.
                self._open[hop] = 0
        else:
            name = self._agent(record.agent.id)
            attributes = {"gen_ai.agent.name": name} if name else {}
            calls = self._open.pop(hop, None)
            if calls is not None:
                self._operations.calls(calls, attributes, Context())
            attributes = {"gen_ai.operation.name": "invoke_agent", **attributes}
            self._operations.agents(_seconds(record.time), self._with_error(record, attributes), Context())

    def _with_error(self, record: AnyRecord, attributes: dict[str, str]) -> dict[str, str]:
        error = error_of(record)
        return attributes if error is None else {**attributes, "error.type": self._known(error)}


def _seconds(time: Time) -> float:
    return max(0, (time.end_ns or time.start_ns) - time.start_ns) / _NS


_LOG: Final = logging.getLogger("agent_identity")
_NS: Final = 1_000_000_000
_OTHER: Final = "_OTHER"  # As the semantic conventions spell what is in no list.
_MAX_NAMED: Final = 100
_MAX_REASONS: Final = 200
_MAX_WAITING: Final = 16_384
_BOUNDARIES: Final = (
    *(0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Seconds; from a call without a policy to a model that inspects."""

_Key: TypeAlias = tuple[str, ...]
"""The values of the attributes of a counter, in their order; the last is the tool, and empty where none is named."""

_TOOL: Final = "gen_ai.tool.name"
_DECISION: Final = tuple(f"agent_identity.decision.{name}" for name in ("effect", "enforced", "mode", "reason"))

_Read: TypeAlias = Callable[["_Measured"], Iterable[tuple[float, Mapping[str, str]]]]
"""Reads an enforcer; what it raises leaves the enforcer out of this collection."""


def measure(
    enforcer: Enforcer,
    meter_provider: MeterProvider | None = None,
    *,
    tools: Collection[str] = (),
    agents: Collection[str] = (),
) -> None:
    """Report metrics of an enforcer to a meter provider, until the enforcer is closed.

    Several enforcers may report to one provider: counts are added up, and of ages the greatest counts. A second call
    with the same enforcer and provider does nothing.

    Args:
        enforcer: The enforcer.
        meter_provider: The meter provider; by default the global one, even if it is set later.
        tools: Names of the tools to tell apart, at most 100; all others are ``_OTHER``. By default no metric names
            tools, because callers and servers may invent names.
        agents: Ids of the agents to tell apart, likewise.

    Raises:
        ConfigurationError: More tools are named.
        TypeError: A name is no text.
    """
    named = _named("tools", tools, "pay_invoice"), _named("agents", agents, "invoice-clerk")
    _instruments_of(meter_provider).add(enforcer, *named)


def _named(what: str, names: Collection[str], example: str) -> frozenset[str]:
    if isinstance(names, str) or any(type(name) is not str for name in names):
        raise TypeError(f"{what} is no collection of names; write {what}=[{example!r}]")
    named = frozenset(names)
    if len(named) > _MAX_NAMED:
        raise ConfigurationError(f"{len(named)} {what} are named; name at most {_MAX_NAMED}, so that series stay few")
    return named


class _Added(NamedTuple):
    """The time that was added to one call."""

    tool: str
    outcome: Ending
    seconds: float
    span: object


@final
class _Measured:
    """One enforcer whose records and timings are counted.

    Attributes:
        enforcer: The enforcer, held weakly: its ledger holds this object.
        last_copied: The stream and place of the last record that travels on a span.
        errors: The numbers of errors at the last collection.
        decisions: The number of decisions by their attributes; written where records are sealed, by one thread.
        refusals: The number of refused calls, likewise.
    """

    def __init__(
        self, enforcer: Enforcer, tools: frozenset[str], agents: frozenset[str], instruments: "_Instruments"
    ) -> None:
        self.enforcer = weakref.ref(enforcer)
        self.last_copied: tuple[str, int] = ("", 0)
        self.errors: dict[str, int] = {}
        self.decisions: dict[_Key, int] = {}
        self.refusals: dict[_Key, int] = {}
        self._tools = tools
        self._instruments = instruments
        self._waiting: deque[_Added] = deque(maxlen=_MAX_WAITING)
        self._invocations = Invocations(
            instruments.operations,
            tool=lambda name: self._tool(name) or _OTHER,
            agent=lambda name: _shown(name, agents),
            known=instruments.known,
        )

    def parts(self) -> Running | None:
        """Return the parts of the enforcer, or ``None`` after its end."""
        enforcer = self.enforcer()
        return None if enforcer is None else running(enforcer)

    def note(self, call: Call, outcome: Ending, added_ns: int) -> None:
        """Note the time that was added to a call: in its thread, so that the rest is done elsewhere."""
        self._waiting.append(_Added(call.tool, outcome, added_ns / _NS, call.execution.span))

    def flush(self) -> None:
        """Record the times that were noted, each with the span of its call as the exemplar."""
        waiting, histogram = self._waiting, self._instruments.added
        while waiting:
            try:
                added = waiting.popleft()
            except IndexError:  # The other thread was faster: the sealing thread and the one that collects.
                return
            attributes = _attributes(("agent_identity.outcome", _TOOL), (added.outcome, self._tool(added.tool)))
            try:
                histogram.record(added.seconds, attributes, _context_of(added.span))
            except Exception as error:  # noqa: BLE001 - Telemetry fails open; whatever a meter raises, counting goes on.
                self._instruments.complain("agent_identity.guard.duration", error)

    def count(self, entry: Entry) -> None:
        """Count a record: a decision when it is on record, and the refusal of a call."""
        self.flush()
        record, known = entry.record, self._instruments.known
        if isinstance(record, Outcome | TaskEnd):
            self.last_copied = record.stream.id, entry.seq
        if isinstance(record, Intent) or (isinstance(record, Outcome) and record.intent is None):
            made = record.decision
            key = (made.effect, made.enforced, made.mode, known(made.reason), self._tool(record.action.tool))
            self.decisions[key] = self.decisions.get(key, 0) + 1
        if isinstance(record, Outcome) and record.outcome == "denied":
            code = known(record.error or _OTHER), self._tool(record.action.tool)
            self.refusals[code] = self.refusals.get(code, 0) + 1
        try:
            self._invocations.count(record)
        except Exception as error:  # noqa: BLE001 - Telemetry fails open, as above.
            self._instruments.complain("gen_ai.execute_tool.duration", error)

    def _tool(self, name: str) -> str:
        """Return the name of a tool, if it is told apart, or nothing, if none is."""
        return _shown(name, self._tools)


def _shown(name: str, named: frozenset[str]) -> str:
    return "" if not named else name if name in named else _OTHER


def _attributes(names: Iterable[str], values: Iterable[str]) -> dict[str, str]:
    """Return attributes without those that say nothing."""
    return {name: value for name, value in zip(names, values, strict=True) if value}


def _add(totals: dict[_Key, int], counts: Mapping[_Key, int]) -> None:
    for key, number in counts.items():
        totals[key] = totals.get(key, 0) + number


def _context_of(span: object) -> Context:
    """Return a context with the span of a call alone, from which the SDK takes exemplars."""
    inner = span.span if type(span) is AdoptedSpan else span
    return set_span_in_context(inner, Context()) if isinstance(inner, Span) else Context()


@final
class _Instruments:
    """The instruments of one meter provider, shared by the enforcers that report to it."""

    def __init__(self, meter: Meter) -> None:
        # Those that report, with what others had counted: one value, so that no collection sees one without the other.
        self._state: tuple[tuple[_Measured, ...], tuple[dict[_Key, int], dict[_Key, int]]] = ((), ({}, {}))
        self._reasons: set[str] = set()
        self._errors: dict[str, int] = {}
        self._complained: set[str] = set()
        self._lock = threading.Lock()
        self.added: Final = meter.create_histogram(
            "agent_identity.guard.duration",
            "s",
            "Time that the guard added to a call: without the body, and without waiting for a person.",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        )
        meter.create_observable_counter(
            "agent_identity.decisions",
            [partial(self._counts, 0, (*_DECISION, _TOOL))],
            "{decision}",
            "Decisions about calls, by effect and reason.",
        )
        meter.create_observable_counter(
            "agent_identity.refusals",
            [partial(self._counts, 1, ("error.type", _TOOL))],
            "{call}",
            "Calls that were refused, by the code of the refusal.",
        )
        meter.create_observable_counter(
            "agent_identity.ledger.errors", [self._all_errors], "{error}", "Errors of the ledger, by operation."
        )
        self.operations: Final = Operations.of(meter)
        for name, unit, description, read, combine in _GAUGES:
            observe = partial(self._observe, name, read, combine)
            meter.create_observable_gauge(name, [observe], unit, description)

    def known(self, reason: str) -> str:
        """Return a code, or ``_OTHER`` after the first 200: a policy of the application may make up others."""
        reasons = self._reasons
        if reason not in reasons:
            if len(reasons) >= _MAX_REASONS:
                return _OTHER
            reasons.add(reason)
        return reason

    def complain(self, name: str, error: Exception) -> None:
        """Log once that a metric fails, by the class of the error alone."""
        if name not in self._complained:
            self._complained.add(name)
            _LOG.warning("the metric %s fails: %s; further errors of it are ignored", name, error_type(error))

    def add(self, enforcer: Enforcer, tools: frozenset[str], agents: frozenset[str]) -> None:
        """Count the records and timings of an enforcer from now on."""
        with self._lock:
            all_measured, gone = self._state
            known = [(one, one.enforcer()) for one in all_measured]
            if any(other is enforcer for _, other in known):
                return
            measured = _Measured(enforcer, tools, agents, self)
            gone = gone[0].copy(), gone[1].copy()
            for one in [one for one, other in known if other is None]:
                _add(gone[0], one.decisions)
                _add(gone[1], one.refusals)
            self._state = (*(one for one, other in known if other is not None), measured), gone
        enforcement = running(enforcer).enforcement
        enforcement.timings.observe(measured.note)
        enforcement.ledger.observe(measured.count)

    def _counts(self, which: int, names: Iterable[str], _: CallbackOptions) -> Iterator[Observation]:
        """Yield the decisions or refusals so far, of all enforcers that ever reported."""
        all_measured, gone = self._state
        totals = gone[which].copy()
        for measured in all_measured:
            measured.flush()
            _add(totals, (measured.decisions, measured.refusals)[which].copy())
        for key, number in totals.items():
            yield Observation(number, _attributes(names, key))

    def _each(self, name: str, read: _Read) -> Iterator[tuple[float, Mapping[str, str]]]:
        """Yield what is read of each enforcer; one that cannot be read is left out, never shown as zero."""
        for measured in self._state[0]:
            try:
                yield from list(read(measured))
            except Exception as error:  # noqa: BLE001 - Telemetry fails open; a collection has other metrics.
                self.complain(name, error)

    def _observe(self, name: str, read: _Read, combine: "_Combine", _: CallbackOptions) -> Iterator[Observation]:
        """Yield the value of a gauge, over all enforcers, by its attributes."""
        values: dict[tuple[tuple[str, str], ...], float] = {}
        for value, attributes in self._each(name, read):
            key = tuple(attributes.items())
            values[key] = combine((values[key], value)) if key in values else value
        for key, value in values.items():
            yield Observation(value, dict(key))

    def _all_errors(self, _: CallbackOptions) -> Iterator[Observation]:
        """Yield the errors of all ledgers so far, those of closed ones included."""
        list(self._each("agent_identity.ledger.errors", self._add_errors))
        for operation, number in self._errors.items():
            yield Observation(number, {"agent_identity.ledger.operation": operation})

    def _add_errors(self, measured: _Measured) -> Iterable[tuple[float, Mapping[str, str]]]:
        parts = measured.parts()
        if parts is not None:
            ledger = parts.enforcement.ledger
            numbers = {
                "append": ledger.append_failures,
                "seal": ledger.sealing.seal_failures,
                "callback": ledger.callback_failures,
                "observer": ledger.observers.failures,
            }
            for operation, number in numbers.items():
                news = max(0, number - measured.errors.get(operation, 0))  # A forked child begins anew.
                measured.errors[operation] = number
                self._errors[operation] = self._errors.get(operation, 0) + news
        return ()


_Combine: TypeAlias = Callable[[Iterable[float]], float]


def _open(read: Callable[[Running], float | None]) -> _Read:
    """Return a reading of open enforcers that gives one value, or none."""

    def one(measured: _Measured) -> Iterator[tuple[float, Mapping[str, str]]]:
        parts = measured.parts()
        value = None if parts is None or parts.closed else read(parts)
        if value is not None:
            yield value, {}

    return one


def _oldest_request(parts: Running) -> float:
    pending = parts.enforcement.approvals.pending()
    return max(0, parts.enforcement.clock.wall_ns() / _NS - pending[0].requested_at) if pending else 0


def _oldest_unsealed(parts: Running) -> float:
    oldest = parts.enforcement.ledger.sealing.oldest_unsealed_ns
    return 0 if oldest is None else max(0, parts.enforcement.clock.wall_ns() - oldest) / _NS


def _list_age(parts: Running) -> float | None:
    listed = parts.enforcement.revocations.known
    return max(0, parts.enforcement.clock.wall_ns() / _NS - listed.issued_at) if listed.version else None


def _source_age(parts: Running) -> float | None:
    age = parts.enforcement.revocations.unanswered_ns
    return None if age is None else age / _NS


def _backlog(measured: _Measured) -> Iterator[tuple[float, Mapping[str, str]]]:
    """Yield the records between the last one that the receiver has and the last one that travels."""
    parts = measured.parts()
    if parts is not None and not parts.closed and parts.exporter is not None:
        stream, last = measured.last_copied
        yield max(0, last - parts.exporter.acknowledged(stream)) if last else 0, {}


_COMPONENTS: Final = ("ledger", "state", "revocations", "tasks", "on_record", "export", "disk", "keys", "limits")


def _degraded(measured: _Measured) -> Iterator[tuple[float, Mapping[str, str]]]:
    """Yield 1 for each degraded component and 0 for the others; names of witnesses come from the configuration."""
    parts, enforcer = measured.parts(), measured.enforcer()
    if parts is not None and enforcer is not None and not parts.closed:
        faults = enforcer.degraded
        publishers = (publisher.name for publisher in parts.enforcement.ledger.publishers)
        for component in dict.fromkeys((*_COMPONENTS, *publishers, *faults)):
            yield int(component in faults), {"agent_identity.component": component}


_GAUGES: Final[tuple[tuple[str, str, str, _Read, _Combine], ...]] = (
    (
        "agent_identity.approval.pending",
        "{request}",
        "Requests that wait for a person.",
        _open(lambda parts: len(parts.enforcement.approvals.pending())),
        sum,
    ),
    ("agent_identity.approval.age", "s", "Age of the oldest request that waits.", _open(_oldest_request), max),
    (
        "agent_identity.task.open",
        "{task}",
        "Tasks whose authority lives in this process.",
        _open(lambda parts: parts.tasks.count(parts.enforcement.clock)),
        sum,
    ),
    (
        "agent_identity.ledger.unsealed",
        "{record}",
        "Records that no signed checkpoint covers yet.",
        _open(lambda parts: parts.enforcement.ledger.sealing.unsealed),
        sum,
    ),
    ("agent_identity.ledger.unsealed_age", "s", "Age of the oldest of these records.", _open(_oldest_unsealed), max),
    (
        "agent_identity.export.backlog",
        "{record}",
        "Records that the OTLP receiver lacks.",
        _backlog,
        sum,
    ),
    (
        "agent_identity.limit.nearly_spent",
        "{limit}",
        "Limits of open tasks that are spent by more than nine tenths.",
        _open(lambda parts: parts.warnings.nearly_spent()),
        sum,
    ),
    (
        "agent_identity.component.degraded",
        "{component}",
        "Components that do not work, or warn.",
        _degraded,
        sum,
    ),
    ("agent_identity.revocation.age", "s", "Age of the revocation list in force.", _open(_list_age), max),
    (
        "agent_identity.revocation.source_age",
        "s",
        "Time since the followed source of revocations last answered.",
        _open(_source_age),
        max,
    ),
)

_LOCK: Final = threading.Lock()
_KNOWN: Final[list[tuple["weakref.ref[MeterProvider]", _Instruments]]] = []  # By identity: not all are hashable.
_GLOBAL: Final[list[_Instruments]] = []


def _instruments_of(provider: MeterProvider | None) -> _Instruments:
    """Return the instruments of a provider; made once, because two of one name contradict each other."""
    current = metrics.get_meter_provider()
    with _LOCK:
        if provider is None or provider is current:
            if not _GLOBAL:
                _GLOBAL.append(_Instruments(current.get_meter(SCOPE, VERSION, SCHEMA_URL)))
            return _GLOBAL[0]
        _KNOWN[:] = [(known, made) for known, made in _KNOWN if known() is not None]
        for known, made in _KNOWN:
            if known() is provider:
                return made
        made = _Instruments(provider.get_meter(SCOPE, VERSION, SCHEMA_URL))
        _KNOWN.append((weakref.ref(provider), made))
        return made
