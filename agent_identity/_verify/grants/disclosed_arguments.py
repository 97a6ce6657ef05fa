"""Checks disclosed arguments against their own records, and against the grants of their calls."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from agent_identity._authority.grants.grants import Grant
from agent_identity._authority.grants.limits import Limit
from agent_identity._authority.grants.scope import UNNAMED
from agent_identity._constraints.literals import Constraint
from agent_identity._constraints.optional import IfGiven
from agent_identity._constraints.value_forms import with_decimals
from agent_identity._identity.common.private_files import read_public_file
from agent_identity._record.disclosures import MAX_DISCLOSURE_BYTES, Disclosure, argument_kinds, names_arguments
from agent_identity._record.schema import AnyRecord, Intent, Outcome
from agent_identity._verify.grants._spent_limits import disclosed_amount
from agent_identity._verify.grants.chain_check import Delegations
from agent_identity._verify.grants.grant_usage import GrantUsage, spent_uses
from agent_identity._verify.inputs.sources import PathLike
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.report.plurals import counted
from agent_identity.canonical import JSON
from agent_identity.errors import VerificationError


def load_disclosure(disclosure: bytes | PathLike) -> Disclosure:
    """Return the disclosure in a file.

    Raises:
        VerificationError: The file is malformed (``bad_disclosure``).
        ConfigurationError: It cannot be read.
    """
    data = disclosure if isinstance(disclosure, bytes) else read_public_file(disclosure, limit=MAX_DISCLOSURE_BYTES)
    return Disclosure.from_bytes(data)


@final
class Disclosures:
    """Disclosures to check against the records of a verification.

    Args:
        files: The files, as bytes or paths.
        findings: Takes what is found.
        step: The number of the step about arguments.
        delegations: The grants of the records.

    Raises:
        ConfigurationError: A file cannot be read.
    """

    def __init__(
        self, files: Sequence[bytes | PathLike], findings: Findings, step: int, delegations: Delegations
    ) -> None:
        self._findings = findings
        self._step = step
        self._delegations = delegations
        self._waiting: dict[str, list[Disclosure]] = {}
        self._taken: list[_Taken] = []
        for file in files:
            try:
                disclosure = load_disclosure(file)
            except VerificationError as error:
                findings.add(step, error.code, str(error))
                continue
            self._waiting.setdefault(disclosure.record, []).append(disclosure)

    def want(self, record: str) -> bool:
        """Return whether a record, by its id, has a disclosure."""
        return record in self._waiting

    def take(self, record: AnyRecord, usage: GrantUsage | None, place: Place) -> None:
        """Compare a record with its disclosures, and store it for the comparison with the grant.

        Args:
            record: The record, as a rule an intent or outcome.
            usage: The usage of its grant.
            place: Where it is.
        """
        shown: dict[str, JSON] = {}
        for disclosure in self._waiting.pop(record.id):
            try:
                disclosure.check(record)
            except VerificationError as error:
                self._findings.add(self._step, error.code, str(error), place)
            else:
                shown.update(disclosure.shown)
        if usage is not None:
            self._delegations.want(usage.grant)
        chain = () if usage is None else tuple(hop.grant for hop in usage.said.chain)
        self._taken.append(_Taken(record, shown, chain, place))

    def settle(self, why: str) -> None:
        """Report the arguments outside their grants, once all chains are judged.

        Args:
            why: The reason why the other arguments cannot be checked.
        """
        findings, judged = self._findings, 0
        for taken in self._taken:
            if taken.chain:
                taken.leaf = self._delegations.leaf(taken.chain[-1])
            problem = taken.problem()
            if problem is not None:
                findings.add(self._step, "argument_outside_grant", problem, taken.place)
            judged += problem is None and taken.judged
        for place, limit in self._overspent():
            message = f"the task allows a sum over {limit.argument!a}, and the disclosed amounts alone exceed it"
            findings.add(self._step, "limit_exceeded", message, place)
        for name in self._waiting:
            message = "the record that a disclosure names is not in the verified evidence"
            findings.add(self._step, "disclosed_record_missing", message, Place(name))
        findings.counts["arguments_within_grants"] = judged
        # The step is not passed: the other calls stay unchecked.
        findings.skip(self._step, f"{counted(judged, 'disclosed call')} within the grants; of the others {why}")

    def _overspent(self) -> Iterator[tuple[Place, Limit]]:
        """Yield the sums that disclosed amounts exceed; of a call and its reruns the largest amount counts."""
        amounts: dict[tuple[str, Limit], dict[str, int]] = {}
        places: dict[tuple[str, Limit], Place] = {}
        for taken in self._taken:
            for limit in taken.sums():
                amount = disclosed_amount(limit, taken.shown)
                if amount is not None:
                    sums = amounts.setdefault(key := (taken.chain[0], limit), {})
                    sums[taken.call] = max(amount, sums.get(taken.call, 0))
                    places[key] = taken.place
        for (root, limit), sums in amounts.items():
            if sum(sums.values()) > limit.most:
                yield places[root, limit], limit


@final
@dataclass(slots=True)
class _Taken:
    """A call with arguments that are proved."""

    record: AnyRecord
    shown: Mapping[str, JSON]
    chain: Sequence[str]
    place: Place
    leaf: Grant | None = None

    @property
    def judged(self) -> bool:
        """True if every argument that the grant constrains is shown, and the chain holds.

        No record says which arguments the caller gave. An optional one counts only if the grant permits its value,
        or the call does not have it.
        """
        constraints = self._constraints()
        return constraints is not None and all(self._is_judged(*named) for named in constraints.items())

    def _is_judged(self, name: str, constraint: Constraint) -> bool:
        kinds = dict(argument_kinds(self.record)) if names_arguments(self.record) else {name: None}
        if not isinstance(constraint, IfGiven) or name not in self.shown:
            return name in self.shown or (isinstance(constraint, IfGiven) and name not in kinds)
        return _permits(constraint, self.shown[name], kinds.get(name))

    @property
    def call(self) -> str:
        """The id that reruns of a call have in common, or that intent and outcome of a call have."""
        record = self.record
        call = record.action.call if isinstance(record, Intent | Outcome) else None
        intent = record.intent if isinstance(record, Outcome) else None
        return call or intent or record.id

    def sums(self) -> Sequence[Limit]:
        """Return the sums of the task that the call spent from, as its outcome shows."""
        record = self.record
        if self.leaf is None or not isinstance(record, Outcome) or not spent_uses(record):
            return ()
        return [limit for limit in self.leaf.limits if limit.kind == "sum" and limit.tool == record.action.tool]

    def problem(self) -> str | None:
        """Return the argument outside the grant, in words, or ``None``."""
        constraints = self._constraints() or {}
        kinds = dict(argument_kinds(self.record)) if names_arguments(self.record) else None
        for name, constraint in constraints.items():
            if isinstance(constraint, IfGiven):
                continue  # No record says that the caller gave it: its value may be the tool's own default.
            if kinds is not None and name not in kinds:
                return f"the call does not have the argument {name!a} that the grant constrains"
            kind = None if kinds is None else kinds[name]
            if name in self.shown and not _permits(constraint, self.shown[name], kind):
                return f"the value of {name!a} of an allowed call is outside the grant"
        return None

    def _constraints(self) -> Mapping[str, Constraint] | None:
        """Return the constraints of the named arguments."""
        record = self.record
        if self.leaf is None or not isinstance(record, Intent | Outcome) or record.decision.effect == "block":
            return None
        constraints = self.leaf.scope.tools.get(record.action.tool)
        return constraints and {name: one for name, one in constraints.items() if name != UNNAMED}


def _permits(constraint: Constraint, value: JSON, kind: str | None) -> bool:
    """Return whether the grant may permit the argument: a decimal is a number, disclosed as text."""
    if kind == "number":
        return constraint.permits(with_decimals(value))
    # Inside a container, or where the record names no kinds, the type is not known, so both readings count.
    return constraint.permits(value) or (kind in (None, "array", "object") and constraint.permits(with_decimals(value)))
