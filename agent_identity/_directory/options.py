"""The option objects of an enforcer: its sources, and durability, privacy, telemetry and transparency of evidence."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from types import MappingProxyType
from typing import Final, Literal, final
from urllib.parse import urlsplit

from opentelemetry.trace import TracerProvider

from agent_identity._common.typed_calls import typed_calls
from agent_identity._guard.telemetry.spans import SpanMode
from agent_identity._identity.common.clock import Clock
from agent_identity._identity.common.ids import Ids
from agent_identity._identity.keys.keys import Signer, SigningKey
from agent_identity._ledger.sealer import OnRecord
from agent_identity._ledger.segments import Segments
from agent_identity._ledger.transparency.publisher import Publish
from agent_identity.errors import ConfigurationError


@typed_calls("__init__")
@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Durability:
    """Durability of records, and the files that a stream of records is divided into.

    Args:
        sync: ``"process"``: a record survives the death of the process; ``"disk"``: power loss too.
        segments: Size and age at which the stream goes on in another file, and the compression of closed files; by
            default 64 MiB, a day, and gzip.

    Raises:
        TypeError: A value has another type.
        ConfigurationError: ``sync`` is another word.
    """

    sync: Literal["process", "disk"] = "process"
    segments: Segments = field(default_factory=Segments)

    def __post_init__(self) -> None:
        _check_word("sync", self.sync, ("process", "disk"))


@typed_calls("__init__")
@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """Privacy of people and arguments in records, spans and grants.

    Args:
        disclosable: Commit to each argument by itself, so that single arguments can be shown to an auditor later
            without the others. Costs about ten microseconds a call.
        pseudonyms: Replace principal ids with pseudonyms in records, spans and grants. Policies and application code
            still see real ids. The mapping is kept in ``keys/pseudonyms.jsonl`` of the directory, and ``agent-identity
            erase`` removes entries. A directory that has this file always uses it.

    Both work with approvals: people see names and values; records and rulings have pseudonyms and digests.

    Raises:
        TypeError: A value has another type.
    """

    disclosable: bool = False
    pseudonyms: bool = False


@typed_calls("__init__")
@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """Destinations for copies of records while the program runs.

    Args:
        tracer_provider: Provider of spans; by default the global provider at the time of each call.
        spans: Span that carries the record of a call. ``"auto"``: the span of another instrumentation that covers the
            same call with the same provider, else one of ours; ``"own"``: always ours; ``"enrich"``: only theirs, and
            without one the record stays in the ledger. Records on their spans are signed before the call returns.
        sealing: ``"background"`` signs the records of spans off the caller's path, ``"inline"`` on it.
        otlp: Address of an OTLP receiver, such as ``http://localhost:4318``. A thread sends it the copy of each
            record and keeps track of acknowledgements, across processes too. Spans then go through a tracer provider
            only if one is given as well. Headers and protocol come from the environment, ``OTEL_EXPORTER_OTLP_*``.
        on_record: Function, or several, called with each :class:`Entry` once it is in the
            ledger and signed, in order, by the sealing thread: for metrics and tests. Seals wait for them, so keep
            them quick. Their exceptions are logged, counted and shown by :attr:`Enforcer.degraded`, and stop nothing.

    Raises:
        TypeError: A value has another type, or a function is a coroutine function.
        ConfigurationError: A word is another one.
    """

    tracer_provider: TracerProvider | None = None
    spans: SpanMode = "auto"
    sealing: Literal["background", "inline"] = "background"
    otlp: str | None = None
    on_record: OnRecord | Sequence[OnRecord] = ()

    def __post_init__(self) -> None:
        _check_word("spans", self.spans, ("auto", "own", "enrich"))
        _check_word("sealing", self.sealing, ("background", "inline"))
        object.__setattr__(self, "on_record", self.observers)

    @property
    def observers(self) -> tuple[OnRecord, ...]:
        """The functions of ``on_record``."""
        functions = (self.on_record,) if callable(self.on_record) else tuple(self.on_record)
        if not all(map(callable, functions)):
            raise TypeError("on_record holds something that cannot be called; give functions of a record")
        if any(_is_async(function) or _is_async(type(function).__call__) for function in functions):
            raise TypeError(
                "on_record holds a coroutine function, and the sealing thread awaits nothing; give a function that "
                "hands the record to your event loop"
            )
        return functions


@typed_calls("__init__")
@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Transparency:
    """Other parties that see the checkpoints of the log.

    Args:
        witnesses: Verifier keys of witnesses by their addresses (C2SP: submission prefixes). They are asked to cosign
            the log, off the callers' paths; nothing waits for them, and :attr:`Enforcer.degraded` names those that
            fail.
        checkpoints: Function, or several, called with the bytes of each signed checkpoint, in a thread of their own.
            Their exceptions are counted and stop nothing.
        certifier: Address of an ``agent-identity certifier``, ``unix:PATH`` or ``https://…``, which is asked for the
            certificate of the recorder key: at the start unless the directory has one for long, and at the opening of
            a task when a third of its life is left, in a thread.
        workload_token: Function that returns the token of this workload for an audience: a SPIFFE JWT-SVID, or a token
            of the platform's OpenID provider. It is shown to the certifier, and kept nowhere.
        certifier_seconds: Seconds that a start waits for the certifier, at most.
        uncertified: ``"allow"``: without a valid certificate the evidence is self-asserted; ``"refuse"``: the start
            fails.

    Raises:
        TypeError: A value has another type.
        ConfigurationError: ``checkpoints`` holds something that cannot be called, a word or the address is another
            one, or a certifier has no ``workload_token``.
    """

    witnesses: Mapping[str, str] = field(default_factory=dict[str, str])
    checkpoints: Publish | Sequence[Publish] = ()
    certifier: str | None = None
    workload_token: Callable[[str], str] | None = None
    certifier_seconds: float = 5.0
    uncertified: Literal["allow", "refuse"] = "allow"

    def __post_init__(self) -> None:
        _check_word("uncertified", self.uncertified, ("allow", "refuse"))
        if (self.certifier is None) != (self.workload_token is None):
            raise ConfigurationError("certifier and workload_token go together; give the other one as well")
        if self.certifier is not None and not _is_certifier(self.certifier):
            raise ConfigurationError("the certifier is neither unix:PATH nor an https address; correct it")
        if not 0 < self.certifier_seconds <= _MOST_SECONDS:
            raise ConfigurationError(f"certifier_seconds is not from 0 to {_MOST_SECONDS}; change it")
        object.__setattr__(self, "witnesses", MappingProxyType(dict(self.witnesses)))
        object.__setattr__(self, "checkpoints", self.publish)

    def __hash__(self) -> int:
        return hash((frozenset(self.witnesses.items()), self.checkpoints, self.certifier, self.uncertified))

    def __reduce__(self) -> tuple[object, ...]:
        """Return it for copies and other processes, since no view of a mapping can be pickled."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        return partial(type(self), **{**given, "witnesses": dict(self.witnesses)}), ()

    @property
    def publish(self) -> tuple[Publish, ...]:
        """The functions of ``checkpoints``."""
        functions = (self.checkpoints,) if callable(self.checkpoints) else tuple(self.checkpoints)
        if not all(map(callable, functions)):
            raise ConfigurationError("checkpoints holds something that cannot be called; give functions of bytes")
        return functions


@typed_calls("__init__")
@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Sources of time, ids and keys, for tests and for keys that are made elsewhere.

    Args:
        clock: Source of time; by default the clock of the system.
        ids: Source of ids; by default random ones, in the order of time.
        new_key: Makes the key that holds a grant and proves its possession; by default one in memory.

    Raises:
        TypeError: A value has another type.
    """

    clock: Clock | None = None
    ids: Ids | None = None
    new_key: Callable[[], Signer] = SigningKey.generate


_MOST_SECONDS: Final = 300


def _is_certifier(text: str) -> bool:
    parts = urlsplit(text)
    return text.removeprefix("unix:") not in (text, "") or bool(parts.scheme == "https" and parts.hostname)


def _check_word(name: str, value: str, words: tuple[str, ...]) -> None:
    if value not in words:
        raise ConfigurationError(f"unknown {name}; use {' or '.join(f'{name}={word!r}' for word in words)}")


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
