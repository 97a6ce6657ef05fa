"""The real enforcer on a directory of the test, with the same time and ids in every run."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self, TypedDict, Unpack, final

from agent_identity._authority.stores.protocol import StateStore
from agent_identity._authority.tokens.source import TokenSource
from agent_identity._common.typed_calls import typed_calls
from agent_identity._directory.enforcer import Enforcer
from agent_identity._directory.options import Privacy, Sources, Telemetry
from agent_identity._guard.calls.approval_request import Approval
from agent_identity._guard.sessions.nesting import Listed
from agent_identity._policy.decision.request import Inspector, Policy
from agent_identity.testing.doubles import FixedClock, SequentialIds
from agent_identity.testing.records import Records

__all__ = ["Rehearsal", "Rehearse"]


class _Options(TypedDict, total=False):
    """Options of :meth:`Enforcer.open`, where they are described."""

    policy: Policy | str | os.PathLike[str]
    routes: Mapping[str, Callable[..., object] | Approval]
    inspectors: Sequence[Inspector]
    mode: Literal["enforce", "monitor"]
    privacy: Privacy
    state: StateStore
    agents: Literal["any", "registered"] | None
    tokens: TokenSource
    nested: Listed


@typed_calls("open")
@final
class Rehearsal:
    """Context manager: an enforcer with a fixed clock and sequential ids, and its records.

    Records are signed before a call returns, so spans are finished by then as well.

    Attributes:
        enforcer: The enforcer, with real keys and a real ledger.
        clock: Its clock, which moves only when the test moves it.
        directory: Its directory, for a :class:`~agent_identity.Verifier` once it is closed.
    """

    def __init__(self, directory: Path, clock: FixedClock, enforcer: Enforcer) -> None:
        self.directory = directory
        self.clock = clock
        self.enforcer = enforcer

    @classmethod
    def open(
        cls, directory: str | os.PathLike[str], *, telemetry: Telemetry = Telemetry(), **options: Unpack[_Options]
    ) -> Self:
        """Open a rehearsal; with pytest, the fixture ``rehearse`` opens one in ``tmp_path``.

        Args:
            directory: An empty directory, or one to create.
            telemetry: As for :meth:`Enforcer.open`; always sealed inline.
            options: As for :meth:`Enforcer.open`: ``policy``, ``routes``, ``inspectors``, ``mode``,
                ``privacy``, ``state``, ``agents``, ``tokens``, ``nested``.

        Raises:
            ConfigurationError: An option is unusable.
            PolicyFormatError: The policy file is malformed.
        """
        clock = FixedClock()
        inline = replace(telemetry, sealing="inline")
        enforcer = Enforcer.open(
            directory, sources=Sources(clock=clock, ids=SequentialIds()), telemetry=inline, **options
        )
        return cls(Path(directory), clock, enforcer)

    @property
    def records(self) -> Records:
        """The records so far, with assertions about them."""
        return Records(self.directory)

    def close(self) -> None:
        """Close the enforcer; the records stay. Idempotent."""
        self.enforcer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Rehearse(Protocol):
    """Type of the fixture ``rehearse``: opens a rehearsal, which ends with the test."""

    def __call__(self, *, telemetry: Telemetry = Telemetry(), **options: Unpack[_Options]) -> Rehearsal:
        """Open a rehearsal in a directory of its own; the options are those of :meth:`Rehearsal.open`."""
        ...
