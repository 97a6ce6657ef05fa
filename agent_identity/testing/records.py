"""What was recorded, read out of the ledger, and what a test may expect of it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from agent_identity.audit import check
from agent_identity.audit.findings import counted
from agent_identity.evidence import open_ledger
from agent_identity.evidence.record_codec import decode
from agent_identity.evidence.records import AnyRecord, Intent, OfTask, Outcome
from agent_identity.identity import Agent, Human, Service
from agent_identity.typed import typed_calls

__all__ = ["RecordedCall", "Records"]

_SHOWN: Final = 100
_CHAINS: Final = "grants and chains, and tools within them"
_COMPARED: Final = ("kind", "issuer", "owner", "version")
_Facts = Mapping[str, str | None]


@final
@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call that came to its end, as its outcome says.

    Attributes:
        tool: The name of the tool.
        outcome: ``success``, ``error``, ``denied`` or another of the outcomes of records.
        code: The reason of the decision; of a refusal, the code of :class:`~agent_identity.errors.Denied`.
        argument: The name of the argument that a refusal is about.
        principal: The id of the principal; ``None`` outside any task.
        agents: The ids of the agents of the chain, root first, so that the last one acted; none outside any task.
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
    """The records of one evidence directory, read anew at each question; the enforcer may be open or closed.

    An assertion that fails says what was expected and what was found, and lists the records. Records hold digests of
    arguments and results, so that no value of either gets into the output of a test.

    Args:
        directory: The directory of an enforcer.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)

    def __iter__(self) -> Iterator[AnyRecord]:
        """Iterate over the records in their order, stream by stream."""
        return iter(self._read())

    def calls(self, tool: str | None = None) -> tuple[RecordedCall, ...]:
        """Return the calls that came to their end, in their order.

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
            tool: Of which tool; by default of any.
            count: How many such calls there must be; by default one or more.

        Raises:
            AssertionError: There is another number of them.
        """
        __tracebackhide__ = True
        found = tuple(call for call in self.calls(tool) if (call.outcome, call.code) == ("denied", code))
        if not _fits(found, count):
            raise AssertionError(self._message(f"refused with {code}", tool, count, found))
        return found

    def assert_attributed(
        self,
        *,
        principal: Human | Service | str,
        agent: Agent | str,
        tool: str | None = None,
        count: int | None = None,
    ) -> tuple[RecordedCall, ...]:
        """Assert that calls were let through for a principal, by an agent, under grants that verify; return them.

        What the records say is not taken for granted: the directory is verified under its own trust file, and each
        chain of grants in it must lead to the issuer.

        Args:
            principal: On whose behalf: an id; or a principal, whose kind and issuer then have to be the same.
            agent: Who acted, the last one of the chain: an id; or an agent, whose owner and version then have to be
                the same.
            tool: Of which tool; by default of any.
            count: How many such calls there must be; by default one or more.

        Raises:
            AssertionError: There is another number of them, or the evidence is contradicted.
        """
        __tracebackhide__ = True
        wanted = {"principal": _principal(principal), "agent": _agent(agent)}
        found = tuple(call for call in self.calls(tool) if call.outcome != "denied" and _is_of(call.record, wanted))
        if not _fits(found, count):
            raise AssertionError(self._message(f"let through{_wanted_words(wanted)}", tool, count, found))
        report = check(self._directory, drafts=True)
        chains = next(step.status for step in report.steps if step.name == _CHAINS)
        if report.verdict == "contradicted" or chains != "passed":
            codes = sorted({problem.code for problem in report.findings})
            raise AssertionError(f"expected grants that verify, found {', '.join(codes)}; see verify\n{self}")
        return found

    def __str__(self) -> str:
        """Return the records, a line each, without what the arguments were."""
        lines = [f"{number:>5} {_line(record)}" for number, record in enumerate(self._read(), 1)]
        before = [f"    … {len(lines) - _SHOWN:,} before"] if len(lines) > _SHOWN else []
        return "\n".join([f"{counted(len(lines), 'record')}:", *before, *lines[-_SHOWN:]])

    def _read(self) -> list[AnyRecord]:
        ledger = open_ledger(self._directory)
        lines = (line.record for stream in ledger.streams() for line in ledger.entries(stream))
        return [record for line in lines if line is not None for record in _decoded(line)]

    def _message(self, what: str, tool: str | None, count: int | None, found: tuple[RecordedCall, ...]) -> str:
        number, of_tool = "a call" if count is None else counted(count, "call"), f" of {_plain(tool)}" if tool else ""
        calls = self.calls(tool)
        ends = "; ".join(dict.fromkeys(_end(call.record) + _parties(call.record) for call in calls))
        among = f"among {counted(len(calls), 'call')}{of_tool}{f' ({ends})' if ends else ''}"
        return f"expected {number}{of_tool} {what}, found {len(found) or 'none'} {among}\n{self}"


def _fits(found: tuple[RecordedCall, ...], count: int | None) -> bool:
    return bool(found) if count is None else len(found) == count


def _decoded(line: bytes) -> Iterator[AnyRecord]:
    """Yield the record of a line; whatever is none is left to verification, which finds it."""
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
    """Say how a call ended, or how its intent was judged."""
    decision = record.decision
    argument = f" of {_plain(decision.argument)}" if decision.argument is not None else ""
    monitored = f", would be {decision.effect}" if decision.mode == "monitor" else ""
    ended = record.outcome if isinstance(record, Outcome) else decision.effect
    return f"{ended}, {decision.reason}{argument}{monitored}"


def _parties(record: AnyRecord) -> str:
    """Say for whom and by whom, with all that is compared; nothing outside any task."""
    parties = {name: getattr(record, name, None) for name in ("principal", "agent")}
    facts = {name: {key: getattr(party, key, None) for key in ("id", *_COMPARED)} for name, party in parties.items()}
    chain = record.chain if isinstance(record, OfTask | Intent | Outcome) else None
    through = [hop.id for hop in (chain or ())[:-1]]
    return _wanted_words(facts) + (f" through {_plain(', '.join(through))}" if through else "")


def _wanted_words(facts: Mapping[str, _Facts]) -> str:
    told = ""
    for word, party in (("for", "principal"), ("by", "agent")):
        found = facts[party]
        rest = ", ".join(f"{name} {_plain(value)}" for name in _COMPARED if (value := found.get(name)))
        identifier = found.get("id")
        told += (f" {word} {_plain(identifier)}" + (f" ({rest})" if rest else "")) if identifier else ""
    return told


def _plain(text: str) -> str:
    """Return a text that cannot steer a terminal; names of tools may come from a model."""
    return text if text.isprintable() else ascii(text)
