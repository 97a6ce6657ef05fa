"""Assertions of a test about the records in its ledger."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from agent_identity._common.typed_calls import typed_calls
from agent_identity._identity.principals.principals import Agent, Human, Service
from agent_identity._ledger.reader import open_ledger
from agent_identity._record.codec import decode
from agent_identity._record.schema import AnyRecord, Intent, OfTask, Outcome
from agent_identity._verify.api import Verifier
from agent_identity._verify.report.plurals import counted

__all__ = ["RecordedCall", "Records"]

_SHOWN: Final = 100
_CHAINS: Final = "grants and chains, and tools within them"
_COMPARED: Final = ("kind", "issuer", "owner", "version")
_Facts = Mapping[str, str | None]


@final
@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call that ended, from its outcome record.

    Attributes:
        tool: The name of the tool.
        outcome: ``success``, ``error``, ``denied`` or another of the outcomes of records.
        code: The reason of the decision; of a refusal, the code of :class:`~agent_identity.errors.Denied`.
        argument: The name of the argument that a refusal names.
        principal: The id of the principal; ``None`` outside any task.
        agents: The ids of the agents of the chain, root first; the last one acted. Empty outside any task.
        record: The whole record; its ``id`` is ``Denied.reference``.
    """

    tool: str
    outcome: str
    code: str
    argument: str | None
    principal: str | None
    agents: tuple[str, ...]
    record: Outcome = field(repr=False)


@typed_calls("__init__", "calls", "assert_denied", "assert_attributed")
@final
class Records:
    """The records of one evidence directory, read again on each use; the enforcer may be open or closed.

    A failed assertion states the expected and the recorded calls, and lists the records. Records hold digests of
    arguments and results, so no value of either gets into the output of a test.

    Args:
        directory: The directory of an enforcer.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)

    def __iter__(self) -> Iterator[AnyRecord]:
        """Iterate over the records in their order, stream by stream."""
        return iter(self._read())

    def calls(self, tool: str | None = None) -> tuple[RecordedCall, ...]:
        """Return the calls that ended, in order.

        Args:
            tool: Only those of this tool.
        """
        calls = [_call(record) for record in self._read() if isinstance(record, Outcome)]
        return tuple(call for call in calls if tool in {None, call.tool})

    def assert_denied(
        self, *, code: str, tool: str | None = None, count: int | None = None
    ) -> tuple[RecordedCall, ...]:
        """Assert that calls were refused, and return them.

        Args:
            code: The code of the refusal.
            tool: The tool; by default any.
            count: The number of such calls; by default one or more.

        Raises:
            AssertionError: The number of such calls differs.
        """
        __tracebackhide__ = True
        refused = tuple(call for call in self.calls(tool) if (call.outcome, call.code) == ("denied", code))
        if not _fits(refused, count):
            raise AssertionError(self._message(f"refused with {code}", tool, count, refused))
        return refused

    def assert_attributed(
        self,
        *,
        principal: Human | Service | str,
        agent: Agent | str,
        tool: str | None = None,
        count: int | None = None,
    ) -> tuple[RecordedCall, ...]:
        """Assert that calls were allowed for a principal, by an agent, under grants that verify; return them.

        The directory is verified under its own trust file, and each chain of grants in it must lead to the issuer.

        Args:
            principal: The principal by its id; or a principal, whose kind and issuer must match as well.
            agent: The acting agent, the last one of the chain, by its id; or an agent, whose owner and version must
                match as well.
            tool: The tool; by default any.
            count: The number of such calls; by default one or more.

        Raises:
            AssertionError: The number of such calls differs, or the evidence is contradicted.
        """
        __tracebackhide__ = True
        wanted = {"principal": _principal(principal), "agent": _agent(agent)}
        allowed = tuple(call for call in self.calls(tool) if call.outcome != "denied" and _is_of(call.record, wanted))
        if not _fits(allowed, count):
            raise AssertionError(self._message(f"let through{_wanted_words(wanted)}", tool, count, allowed))
        report = Verifier().ledger(self._directory)
        chains = next(step.status for step in report.steps if step.name == _CHAINS)
        if report.verdict == "contradicted" or chains != "passed":
            codes = sorted({problem.code for problem in report.findings})
            raise AssertionError(f"the grants do not verify ({', '.join(codes)}); see verify\n{self}")
        return allowed

    def __str__(self) -> str:
        """Return the records, one a line, without argument values."""
        lines = [f"{number:>5} {_line(record)}" for number, record in enumerate(self._read(), 1)]
        before = [f"    … {len(lines) - _SHOWN:,} before"] if len(lines) > _SHOWN else []
        return "\n".join([f"{counted(len(lines), 'record')}:", *before, *lines[-_SHOWN:]])

    def _read(self) -> list[AnyRecord]:
        ledger = open_ledger(self._directory)
        lines = (line.record for stream in ledger.streams() for line in ledger.entries(stream))
        return [record for line in lines if line is not None for record in _decoded(line)]

    def _message(self, what: str, tool: str | None, count: int | None, matching: tuple[RecordedCall, ...]) -> str:
        number, of_tool = "a call" if count is None else counted(count, "call"), f" of {_plain(tool)}" if tool else ""
        calls = self.calls(tool)
        ends = "; ".join(dict.fromkeys(_end(call.record) + _parties(call.record) for call in calls))
        among = f"among {counted(len(calls), 'call')}{of_tool}{f' ({ends})' if ends else ''}"
        return f"expected {number}{of_tool} {what}, found {len(matching) or 'none'} {among}\n{self}"


def _fits(calls: tuple[RecordedCall, ...], count: int | None) -> bool:
    return bool(calls) if count is None else len(calls) == count


def _decoded(line: bytes) -> Iterator[AnyRecord]:
    """Yield the record of a line; nothing for a malformed one, which verification reports."""
    with suppress(ValueError):
        yield decode(line)


def _call(record: Outcome) -> RecordedCall:
    return RecordedCall(
        tool=record.action.tool,
        outcome=record.outcome,
        code=record.decision.reason,
        argument=record.decision.argument,
        principal=None if record.principal is None else record.principal.id,
        agents=tuple(hop.id for hop in record.chain or ()),
        record=record,
    )


def _principal(wanted: Human | Service | str) -> _Facts:
    return (
        {"id": wanted} if isinstance(wanted, str) else {"id": wanted.id, "kind": wanted.kind, "issuer": wanted.issuer}
    )


def _agent(wanted: Agent | str) -> _Facts:
    if isinstance(wanted, str):
        return {"id": wanted}
    return {"id": wanted.id, "owner": wanted.owner, "version": wanted.version}


def _is_of(record: Outcome, wanted: Mapping[str, _Facts]) -> bool:
    parties = {"principal": record.principal, "agent": record.agent}
    return all(
        getattr(parties[party], name, None) == value for party, facts in wanted.items() for name, value in facts.items()
    )


def _line(record: AnyRecord) -> str:
    call = f" {_plain(record.action.tool)}: {_end(record)}" if isinstance(record, Intent | Outcome) else ""
    return f"{record.kind}{call}{_parties(record)}"


def _end(record: Intent | Outcome) -> str:
    """Describe the outcome of a call, or the decision on its intent."""
    decision = record.decision
    argument = f" of {_plain(decision.argument)}" if decision.argument is not None else ""
    monitored = f", would be {decision.effect}" if decision.mode == "monitor" else ""
    ended = record.outcome if isinstance(record, Outcome) else decision.effect
    return f"{ended}, {decision.reason}{argument}{monitored}"


def _parties(record: AnyRecord) -> str:
    """Describe the parties with every compared member; empty outside any task."""
    parties = {name: getattr(record, name, None) for name in ("principal", "agent")}
    facts = {name: {key: getattr(party, key, None) for key in ("id", *_COMPARED)} for name, party in parties.items()}
    chain = record.chain if isinstance(record, OfTask | Intent | Outcome) else None
    through = [hop.id for hop in (chain or ())[:-1]]
    return _wanted_words(facts) + (f" through {_plain(', '.join(through))}" if through else "")


def _wanted_words(facts: Mapping[str, _Facts]) -> str:
    words = ""
    for word, party in (("for", "principal"), ("by", "agent")):
        members = facts[party]
        rest = ", ".join(f"{name} {_plain(value)}" for name in _COMPARED if (value := members.get(name)))
        identifier = members.get("id")
        words += (f" {word} {_plain(identifier)}" + (f" ({rest})" if rest else "")) if identifier else ""
    return words


def _plain(text: str) -> str:
    """Return a text that cannot steer a terminal; names of tools may come from a model."""
    return text if text.isprintable() else ascii(text)
