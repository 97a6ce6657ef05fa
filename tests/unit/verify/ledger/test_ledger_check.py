"""What a verification makes of the streams of a ledger and of its log, piece by piece."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._ledger.excerpt_starts import Start
from agent_identity._ledger.prune_statement import PruneStatement
from agent_identity._ledger.reader import RawLine
from agent_identity._ledger.transparency.log import Head
from agent_identity._record.codec import decode
from agent_identity._record.parts import RecoveredStream
from agent_identity._storage.lines import Block
from agent_identity._verify.grants.disclosed_arguments import Disclosures
from agent_identity._verify.ledger import _pruning_check as pruning_check
from agent_identity._verify.ledger import ledger_check
from agent_identity._verify.ledger.external_evidence import ExternalEvidence
from agent_identity._verify.ledger.ledger_check import LEDGER_STEPS, LedgerCheck
from agent_identity._verify.ledger.log_check import Heads, SignedLog
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.report.periods import Life, Period, unknown_period
from agent_identity._verify.store.workers import in_process
from agent_identity.identity import SigningKey, TrustedKey, TrustStore

UUID = "AZq1rUgAcACAAAAAAAAAAQ"
ONE, TWO, THREE = (f"AaIOQ0bYcV-ScJHDCbiHE{letter}" for letter in "AQg")
KEY = SigningKey.from_seed(bytes([1]) * 32)
NS = 10**9


def statement(stream: str, size: int, *, time_ns: int = 0, open_: Sequence[str] = ()) -> PruneStatement:
    """Return what is said to be pruned."""
    made = object.__new__(PruneStatement)
    for name, value in (("stream", stream), ("size", size), ("time_ns", time_ns), ("open", tuple(open_))):
        object.__setattr__(made, name, value)
    return made


def heads_of(*sizes: int) -> Heads:
    """Return the heads of a stream."""
    heads = Heads()
    for size in sizes:
        heads.add(Head(ONE, size, bytes([size]) * 32, 50 * size))
    return heads


def log_of(*, proved: bool = True, doubts: Any = None, signers: tuple[TrustedKey, ...] = (), **sizes: int) -> SignedLog:
    """Return what a log says about streams, by their number."""
    names = {"one": ONE, "two": TWO, "three": THREE}
    return SignedLog({names[name]: heads_of(size) for name, size in sizes.items()}, proved, signers, doubts)


def stream_of(stream: str = ONE, **facts: object) -> Any:
    """Return what was read of a stream: by default three records with an end, all sealed."""
    sound = {
        "lines": 3,
        "committed": 3,
        "sealed": 3,
        "pruned": 0,
        "withheld": 0,
        "torn": 0,
        "ended": True,
        "closing": None,
    }
    times = {"latest_ns": 0, "earliest_ns": 0, "within": 0}
    given = {"stream": stream, "end": None, **sound, **times, **facts}
    return SimpleNamespace(**{"size": given["pruned"] + given["lines"], **given})


class Noted:
    """Takes any call, and notes it."""

    def __init__(self, **facts: object) -> None:
        self.said: list[tuple[object, ...]] = []
        vars(self).update(facts)

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Return what notes a call."""

        def call(*given: object, **named: object) -> None:
            self.said.append((name, *given, *named.items()))

        return call


def checking(reader: object = None, trust: TrustStore | None = None, **options: Any) -> tuple[LedgerCheck, Findings]:
    """Return a check of a ledger and what it found, which is nothing yet."""
    findings = Findings("ledger", LEDGER_STEPS)
    return LedgerCheck(reader, trust, findings, **options), findings


def found(findings: Findings) -> list[tuple[object, ...]]:
    """Return the kinds and words of what was found, and where."""
    return [(p.code, p.message, p.stream, p.seq) for p in findings.report().findings]


def steps(findings: Findings) -> dict[int, tuple[str, str]]:
    """Return the steps about which something was said."""
    silent = ("not_checked", "")
    return {s.number: (s.status, s.detail) for s in findings.report().steps if (s.status, s.detail) != silent}


ENDLESS = "the stream has no end; its process still runs, was killed, or the end was cut"
TORN = "the last line of the stream is torn"


@pytest.mark.parametrize(
    ("facts", "recovered", "expected"),
    [
        ({}, False, []),
        ({"lines": 0, "committed": 0}, False, [("stream_empty", "a stream that was begun holds no record", 1)]),
        (
            {"lines": 0, "committed": 0, "torn": 5, "ended": False},
            False,
            [("torn_tail", TORN, 1), ("no_end", ENDLESS, 0)],
        ),
        (
            {"lines": 0, "committed": 0, "torn": 5},
            True,
            [("stream_empty", "a stream that was begun holds no record", 1)],
        ),
        ({"lines": 0, "pruned": 3, "ended": False}, False, []),
        ({"lines": 0, "committed": 3, "ended": False}, False, [("no_end", ENDLESS, 0)]),
        (
            {"committed": 0},
            False,
            [("stream_unknown", "the log does not commit to the stream; nothing proves its 3 records", 1)],
        ),
        (
            {"committed": 0, "lines": 1},
            False,
            [("stream_unknown", "the log does not commit to the stream; nothing proves its 1 record", 1)],
        ),
        (
            {"committed": 2},
            False,
            [("tail_unsealed", "1 record after the last seal; nothing proves them", 3)],
        ),
        (
            {"committed": 4, "pruned": 2},
            False,
            [("tail_unsealed", "1 record after the last seal; nothing proves them", 5)],
        ),
        ({"committed": 4}, False, []),
        ({"torn": 5}, False, [("torn_tail", TORN, 4)]),
        ({"torn": 5}, True, []),
        ({"torn": 6}, True, [("torn_tail", TORN, 4)]),
        ({"lines": 0, "committed": 0, "torn": 6}, True, [("torn_tail", TORN, 1)]),
        ({"ended": False}, False, [("no_end", ENDLESS, 3)]),
        ({"ended": False}, True, []),
        ({"ended": False, "end": 3}, False, []),
        ({"ended": False, "pruned": 2, "committed": 5}, False, [("no_end", ENDLESS, 5)]),
    ],
)
def test_what_is_said_of_the_end_of_a_stream(facts: Any, recovered: bool, expected: list[tuple[object, ...]]) -> None:
    """What is missing is named behind the last record that is there, and once."""
    check, findings = checking()
    if recovered:
        check._calls.recovered[ONE] = found_dead(ONE, "1", "0", torn="5")
    check._check_end(stream_of(**facts))
    assert found(findings) == [(code, message, ONE, seq) for code, message, seq in expected]
    endless = [code for code, _, _ in expected].count("no_end")
    assert check._endless == endless
    assert {step for step, (status, _) in steps(findings).items() if status == "failed"} <= {7}
    assert (7 in steps(findings)) == any(code != "stream_empty" for code, _, _ in expected)
    check._check_end(stream_of(**facts))
    assert check._endless == 2 * endless


def found_dead(stream: str, size: str, sealed: str, rejected: str = "0", torn: str = "0") -> RecoveredStream:
    """Return what a later start said of a stream."""
    return RecoveredStream(
        stream=stream, size=size, sealed_before=sealed, torn_bytes=torn, rejected_bytes=rejected, open_count="0"
    )


def test_what_is_said_of_streams_that_were_recovered_or_are_gone() -> None:
    """How many records were found, how many of them were sealed, and whether others wrote into it."""
    check, findings = checking()
    check._calls.recovered.update(
        {
            ONE: found_dead(ONE, "1200", "1100"),
            TWO: found_dead(TWO, "1", "0", "7"),
            THREE: found_dead(THREE, "2", "2"),
        }
    )
    findings.add(4, "bad_grant", "x")
    check._check_completeness({ONE: stream_of(ended=False)}, {TWO: 1, THREE: 1200})
    words = "the stream with {}, which the log commits to, is missing; it was removed"
    written = "a later start found bytes in the stream that its process did not write, and did not seal them"
    died = "its process died; a later start found {}, {} of them sealed"
    assert found(findings)[1:] == [
        ("stream_missing", words.format("1 record"), TWO, None),
        ("stream_missing", words.format("1,200 records"), THREE, None),
        ("rejected_tail", written, TWO, None),
        ("recovered", died.format("1,200 records", "1,100"), ONE, None),
        ("recovered", died.format("1 record", "0"), TWO, None),
        ("recovered", died.format("2 records", "2"), THREE, None),
    ]
    assert findings.counts == {"contradicted": 1}
    assert steps(findings)[7][0] == "failed"
    check, findings = checking()
    check._report_recovered(TWO, found_dead(TWO, "1", "0", "7"))
    assert steps(findings) == {7: ("failed", "")}


def test_what_is_counted() -> None:
    """Records that are shown, those that the log proves and no revoked key alone, and those behind the last seal."""
    one = stream_of(lines=5, committed=4, sealed=6, pruned=2, withheld=1)
    two = stream_of(TWO, lines=3, committed=9, sealed=3)
    check, findings = checking()
    check._calls.recovered[THREE] = {}
    check._count(log_of(), {ONE: one, TWO: two})
    assert findings.counts == {"records": 7, "withheld": 1, "streams": 2, "verified": 6, "unsealed": 3, "recovered": 1}
    check, findings = checking()
    check._count(log_of(doubts=SimpleNamespace(records=2)), {TWO: two})
    assert findings.counts == {"records": 3, "streams": 1, "verified": 1, "unsealed": 0, "recovered": 0}
    check, findings = checking()
    check._count(log_of(doubts=SimpleNamespace(records=4)), {TWO: two})
    assert findings.counts["verified"] == 0
    check._count(log_of(proved=False), {TWO: two})
    assert findings.counts["verified"] == 0


def concluding(monkeypatch: pytest.MonkeyPatch) -> tuple[LedgerCheck, Findings, Noted]:
    """Return a check whose parts note what they are asked for."""
    check, findings = checking()
    said = Noted(partial=False)
    check._calls = check._delegations = check._approvals = said
    monkeypatch.setattr(ledger_check, "_proof", lambda log, _: ("proof", log.signers))
    return check, findings, said


NOTHING = "the ledger has no records; nothing can be verified"
DIGESTS = "the ledger holds keyed digests of them"


def test_without_records_nothing_is_concluded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step about records passes, and no part is asked."""
    check, findings, said = concluding(monkeypatch)
    check._conclude(log_of(), {ONE: stream_of(lines=0)}, set())
    assert (found(findings), said.said) == ([("nothing_to_verify", NOTHING, None, None)], [])
    assert steps(findings) == dict.fromkeys((4, 5, 6), ("not_checked", "there are no records"))
    assert [step.status for step in findings.report().steps] == ["not_checked"] * 8
    for step in (2, 3):
        findings.done(step, "")
    assert [step.status for step in findings.report().steps[1:3]] == ["passed", "not_checked"]


def test_what_the_log_proves_is_concluded(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many records of how many, and of which only the hash is given; then calls, chains, approvals."""
    check, findings, said = concluding(monkeypatch)
    streams = {ONE: stream_of(sealed=5, pruned=2, withheld=1, latest_ns=7), TWO: stream_of(TWO, lines=1000, sealed=990)}
    times: list[object] = []
    monkeypatch.setattr(check, "_check_key_times", lambda *given: times.append(given))
    key = TrustedKey(KEY.public_key, "recorder")
    check._conclude(log_of(signers=(key,)), streams, set())
    assert (found(findings), times) == ([], [((key,), 7)])
    detail = "993 of 1,003 records in 2 streams"
    assert steps(findings) == {3: ("passed", detail), 4: ("passed", "1,002 records"), 8: ("not_checked", DIGESTS)}
    proof = ("proof", (key,))
    settle = ("settle", ("absent", None), ("kept", False), ("proved", proof), ("executor", in_process))
    assert said.said == [("finish",), settle, ("settle", proof, ("absent", None))]


def test_what_no_trusted_signature_proves_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fits the log, and that is all that is said."""
    check, findings, _ = concluding(monkeypatch)
    check._conclude(log_of(proved=False), {ONE: stream_of(lines=1, sealed=1)}, set())
    detail = "1 of 1 record in 1 stream fit the log, but no trusted signature proves the log"
    assert steps(findings)[3] == ("not_checked", detail)
    assert found(findings) == []


@pytest.mark.parametrize(
    ("proved", "missing", "committed", "said"),
    [(True, set(), 0, True), (False, set(), 0, False), (True, {TWO}, 0, False), (True, set(), 1, False)],
)
def test_records_that_the_log_does_not_know_prove_nothing(
    proved: bool, missing: set[str], committed: int, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the log commits to none of them, and none is missing, there is nothing to verify yet."""
    check, findings, _ = concluding(monkeypatch)
    streams = {ONE: stream_of(lines=1200, sealed=0, committed=committed), TWO: stream_of(TWO, lines=0, committed=0)}
    check._conclude(log_of(proved=proved), streams, missing)
    words = "the log does not commit to any of the 1,200 records yet; nothing proves them"
    assert found(findings) == ([("nothing_to_verify", words, None, None)] if said else [])
    assert steps(findings)[3][0] == ("passed" if proved and not said else "not_checked")


def test_why_a_grant_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is missing, an excerpt, one that cannot be read, what was pruned: the first of them is said."""
    check, findings = checking()
    assert check._why_absent(set()) is None
    findings.counts["pruned"] = 1
    assert check._why_absent(set()) == "it was pruned"
    check._denied = frozenset({TWO})
    assert check._why_absent(set()) == "a stream cannot be read"
    check._excerpt = True
    assert check._why_absent(set()) == "it is not in this excerpt"
    assert check._why_absent({ONE}) == "a stream is missing"


def test_arguments_that_are_disclosed_are_compared() -> None:
    """Where none are, the ledger holds digests."""
    check, findings = checking()
    assert check._disclosures is None
    check._conclude_arguments()
    assert steps(findings) == {8: ("not_checked", DIGESTS)}
    check, findings = checking(disclosures=[b"{}"])
    assert isinstance(check._disclosures, Disclosures)
    assert check._calls._disclosures is check._disclosures
    check._disclosures = noted = Noted()
    check._conclude_arguments()
    assert noted.said == [("settle", "the ledger holds digests")]


def test_doubts_are_concluded_before_the_first_step_passes() -> None:
    """A ledger of which no word is left in doubt, under a revoked key, says why it counts."""
    check, findings = checking()
    check._conclude_doubts(log_of())
    assert steps(findings) == {}
    doubts = Noted()
    check._conclude_doubts(log_of(doubts=doubts, proved=False))
    assert (doubts.said, steps(findings)) == ([("conclude", findings)], {})
    check._conclude_doubts(log_of(doubts=doubts))
    words = "a recorder key is revoked, and what it signed is shown to be older, or replaced"
    assert steps(findings) == {1: ("passed", words)}


def test_a_key_must_have_been_valid_when_the_latest_record_was_made() -> None:
    """To the second; of several signers one is enough, and without a record or a signer there is nothing to ask."""
    early, late = (TrustedKey(KEY.public_key, "recorder", not_before=at, not_after=at + 1) for at in (5, 7))
    for signers, latest, good in (
        ((early,), 5 * NS - 1, False),
        ((early,), 5 * NS, True),
        ((early,), 7 * NS - 1, True),
        ((early,), 7 * NS, False),
        ((early, late), 7 * NS, True),
        ((late, early), 4 * NS, False),
        ((early,), 0, True),
        ((), 7 * NS, True),
    ):
        check, findings = checking()
        check._check_key_times(signers, latest)
        words = "no key under the checkpoint was valid at the time of its latest record"
        assert found(findings) == ([] if good else [("key_not_valid_then", words, None, None)])
        findings.done(1, "")
        assert steps(findings).get(1, ("not_checked", ""))[0] == ("passed" if good else "not_checked")


def test_what_the_log_proves_of_a_record() -> None:
    """Up to the last head to which its stream leads, under a proved log, unless a revoked key leaves it in doubt."""
    streams = {ONE: stream_of(sealed=3)}
    proved = ledger_check._proof(log_of(one=4), streams)
    assert [proved(Place(stream=ONE, seq=seq)) for seq in (1, 3, 4)] == [True, True, False]
    assert [proved(Place(stream=TWO, seq=1)), proved(Place(seq=1))] == [False, False]
    assert proved(Place(stream=ONE)) is True
    assert not ledger_check._proof(log_of(proved=False, one=3), streams)(Place(stream=ONE, seq=1))
    doubts = SimpleNamespace(proved=lambda place: place.seq == 2)
    proved = ledger_check._proof(log_of(doubts=doubts, one=3), streams)
    assert [proved(Place(stream=ONE, seq=seq)) for seq in (1, 2, 4)] == [False, True, False]


def end_of_stream(seq: str, start: str = "1", **end: str) -> bytes:
    """Return the last record of a stream."""
    place, time = {"id": UUID, "seq": seq, "prev": "A" * 43}, {"start": start, **end}
    said = {"v": "1", "id": UUID, "kind": "stream_end", "stream": place, "time": time, "end": {"size": seq}}
    return encode_record(said)


def test_who_is_shown_the_records_of_a_stream() -> None:
    """The doubts, those that are sealed; else nobody."""
    seen: list[object] = []
    doubts: Any = SimpleNamespace(visit=lambda record: seen.append(record.stream.number))
    assert ledger_check._showing(heads_of(2), None) is None
    records = [decode(end_of_stream(str(seq))) for seq in (2, 3, 4)]
    for heads, expected in (heads_of(3), [2, 3]), (None, []):
        seen.clear()
        shown = ledger_check._showing(heads, doubts)
        assert shown is not None
        for record in records:
            shown(record, b"l", None)
        assert seen == expected
    seen.clear()
    excerpt = ledger_check._showing(heads_of(2), None, lambda record, *_: seen.append(record.id), Start(0, b"", (), 2))
    assert excerpt is not None
    for record in records:
        excerpt(record, b"l", None)
    assert seen == [UUID]


def test_from_when_on_nothing_is_pruned() -> None:
    """The latest time in the first record that is left, or that of the statement where none can be read."""
    asked: list[object] = []
    lines: list[RawLine] = []

    def entries(name: str, *, start: int) -> Iterator[RawLine]:
        asked.append((name, start))
        return iter(lines)

    reader: Any = SimpleNamespace(entries=entries)
    gone = statement(ONE, 4, time_ns=70)
    assert ledger_check._whole_since(reader, ONE, object.__new__(Start)) == 0
    assert (ledger_check._whole_since(reader, ONE, gone), asked) == (70, [(ONE, 5)])
    lines.append(RawLine(0, None, None, "torn"))
    assert ledger_check._whole_since(reader, ONE, gone) == 70
    for times, latest in (({"start": "9"}, 9), ({"start": "9", "end": "12"}, 12), ({"start": "100", "end": "12"}, 100)):
        lines[:] = [RawLine(0, end_of_stream("5", **times), "", None), RawLine(0, b"{}", "", None)]
        assert ledger_check._whole_since(reader, ONE, gone) == latest


def test_where_streams_begin_that_do_not_begin_with_their_first_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was pruned, with the grants that were kept of it, and what an excerpt gives, which comes before it."""
    trust = TrustStore((TrustedKey(KEY.public_key, "recorder"),))
    asked: list[object] = []
    looked: list[tuple[object, ...]] = []
    pruned = {ONE: statement(ONE, 2, open_=["a"]), TWO: statement(TWO, 3, open_=["b", "c"])}
    kept = {ONE: ["t1"], TWO: ["t2", "t3"]}
    answers: dict[str, Any] = {"pruned": pruned, "excerpt": None}

    reader: Any = SimpleNamespace(excerpt=lambda: None, closure=lambda _: None, pruned=lambda _: b"a statement")

    def find_kept(of: object, said: Iterable[PruneStatement], *given: object) -> list[str]:
        asked.append((of, *given))
        return [token for statement in said for token in kept[statement.stream]]

    monkeypatch.setattr(pruning_check, "find_pruned", lambda *given: asked.append(given) or answers["pruned"])
    monkeypatch.setattr(pruning_check, "find_excerpt", lambda *given: asked.append(given) or answers["excerpt"])
    monkeypatch.setattr(pruning_check, "find_kept", find_kept)
    monkeypatch.setattr(pruning_check, "find_leftovers", lambda *given: looked.append(given))
    log = log_of(one=3)
    check, findings = checking(reader, trust)
    check._delegations = tokens = Noted()
    assert check._starts([ONE], log) == pruned
    assert asked == [
        (reader, [ONE], log.heads, trust, findings),
        (reader, trust, findings),
        (reader, [ONE], findings),
    ]
    assert tokens.said == [("add_kept", token) for token in ("t1", "t2", "t3")]
    assert (check._calls.gone, check._calls.partial) == ({"a", "b", "c"}, False)
    answers |= {"pruned": {}, "excerpt": {TWO: "start"}}
    check, _ = checking(reader, trust)
    assert check._starts([ONE], log) == {TWO: "start"}
    assert (check._calls.gone, check._calls.partial) == (None, True)
    answers |= {"pruned": pruned}
    assert check._starts([ONE], log) == {ONE: pruned[ONE], TWO: "start"}
    assert [starts for _, starts, _ in looked] == [pruned, {TWO: "start"}, {ONE: pruned[ONE], TWO: "start"}]


def test_a_ledger_with_all_its_records_begins_with_the_first_ones() -> None:
    """Without a statement of a pruning and without an excerpt there is nothing to read about where streams begin."""
    reader: Any = SimpleNamespace(excerpt=lambda: None, closure=lambda _: None, pruned=lambda _: None)
    check, _ = checking(reader)
    assert check._starts([ONE, TWO], log_of(one=3)) == {}
    assert (check._calls.gone, check._calls.partial) == (None, False)
    check._denied = frozenset({TWO})
    assert check._starts([ONE], log_of(one=3)) == {}
    assert check._calls.partial


PERIOD = (10, 20)


@pytest.mark.parametrize(
    ("codes", "proved", "endless", "why"),
    [
        (["bad_grant"], True, 0, "the ledger does not verify"),
        (["no_trust"], True, 0, "the ledger does not verify"),
        ([], False, 0, "the ledger does not verify"),
        (["no_end"], True, 0, "records may be missing"),
        (["no_end"], True, 1, None),
        (["no_end", "torn_tail"], True, 1, "records may be missing"),
        (["unknown_outcome"], True, 0, None),
    ],
)
def test_what_may_be_said_about_a_period(
    codes: list[str], proved: bool, endless: int, why: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of a ledger that does not verify, and with a doubt where records may be missing."""
    asked: list[object] = []
    monkeypatch.setattr(ledger_check, "judge_period", lambda *given: asked.append(given) or "judged")
    check, findings = checking()
    check._endless = endless
    for code in codes:
        findings.add(1, code, "x")
    streams = {
        ONE: stream_of(sealed=3, pruned=2, earliest_ns=11, latest_ns=13, within=2),
        TWO: stream_of(TWO, sealed=2, pruned=2),
    }
    check._judge_period(log_of(proved=proved, one=3, two=2), streams, PERIOD, {})
    if why == "the ledger does not verify":
        assert (findings.period, asked) == (unknown_period(10, 20, why), [])
    else:
        assert (findings.period, asked) == ("judged", [(10, 20, [Life(11, 13, [], True, 2)], why)])


@pytest.mark.parametrize(
    ("begin", "codes", "why"),
    [(69, [], "records of that time were pruned"), (70, [], None), (69, ["torn_tail"], "records may be missing")],
)
def test_a_period_from_before_the_border_is_open(
    begin: int, codes: list[str], why: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was pruned may have been in it."""
    asked: list[Any] = []
    monkeypatch.setattr(ledger_check, "judge_period", lambda *given: asked.append(given) or "judged")
    check, findings = checking(SimpleNamespace(entries=lambda name, start: iter(())))
    for code in codes:
        findings.add(1, code, "x")
    starts = {TWO: object.__new__(Start), ONE: statement(ONE, 2, time_ns=70)}
    check._judge_period(log_of(), {}, (begin, 90), starts)
    assert asked == [(begin, 90, [], why)]


def running(
    monkeypatch: pytest.MonkeyPatch, log: SignedLog, *names: str, **options: Any
) -> tuple[LedgerCheck, Findings, list[Any]]:
    """Return a check of streams whose steps note what they are asked for."""
    asked: list[Any] = []

    def check_log(*given: object, **named: object) -> SignedLog:
        asked.append(("log", given, named))
        return log

    class Reading(SimpleNamespace):
        def __init__(self, *given: object, **named: object) -> None:
            super().__init__(**vars(stream_of(given[0])))
            asked.append(("stream", given, named))

        def take(self, line: RawLine) -> None:
            asked.append(("take", line.problem))

        def finish(self) -> None:
            asked.append(("finish", self.stream))

    monkeypatch.setattr(ledger_check, "check_log", check_log)
    monkeypatch.setattr(ledger_check, "StreamCheck", Reading)
    reader = SimpleNamespace(
        streams=lambda: names, denied=tuple, closure=lambda _: None, blocks=lambda name, start: iter(BLOCKS)
    )
    check, findings = checking(reader, **options)
    for name in ("_conclude", "_count", "_check_completeness", "_judge_period"):
        monkeypatch.setattr(check, name, lambda *given, name=name: asked.append((name, *given)))
    monkeypatch.setattr(check, "_starts", lambda *given: asked.append(("starts", *given)) or {TWO: START})
    return check, findings, asked


START = SimpleNamespace(size=4)
BLOCKS = (Block(0, 6, [b"a", b"b"]), Block(6, 10, [b"c"]), RawLine(10, None, None, "unreadable"))


def test_a_ledger_is_checked_stream_by_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the log commits to come first, what is asked for reaches every step, and what is missing is named."""
    trust = TrustStore((TrustedKey(KEY.public_key, "recorder"),))
    log = log_of(two=3, three=2)
    check, findings, asked = running(monkeypatch, log, ONE, TWO, trust=trust)
    told: list[object] = []
    index: Any = SimpleNamespace(prove=lambda size: asked.append(("prove", size)))
    outside = ExternalEvidence(b"x")
    check.run(outside=outside, total=99, progress=lambda *far: told.append(far), period=PERIOD, index=index)
    assert asked[0] == ("log", (check._reader, trust, findings), {"outside": outside})
    assert asked[1] == ("starts", [TWO, ONE], log)
    named = {
        "findings": findings,
        "calls": check._calls,
        "visit": None,
        "index": index,
        "period": PERIOD,
        "closing": None,
    }
    lines = [("take", "malformed")] * 3 + [("take", "unreadable")]
    assert asked[2:9] == [
        ("stream", (TWO, log.heads[TWO]), {**named, "start": START}),
        *lines,
        ("finish", TWO),
        ("prove", 3),
    ]
    assert asked[9:16] == [
        ("stream", (ONE, None), {**named, "start": None}),
        *lines,
        ("finish", ONE),
        ("prove", 3),
    ]
    assert told == [(n, 99) for n in (6, 10, 10, 10, 16, 20, 20, 20)]
    (conclude, count, complete, judge) = asked[16:]
    streams = complete[1]
    assert list(streams) == [TWO, ONE]
    assert conclude == ("_conclude", log, streams, {THREE})
    assert count == ("_count", log, streams)
    assert complete == ("_check_completeness", streams, {THREE: 2})
    assert judge == ("_judge_period", log, streams, PERIOD, {TWO: START})
    assert (found(findings), findings.completeness_checked) == ([], True)
    assert steps(findings) == {7: ("passed", "2 streams, as of this checkpoint")}


@pytest.mark.parametrize(("log", "size"), [({"proved": False}, 0), ({"doubts": Noted()}, 0), ({}, 3)])
def test_nothing_is_proved_where_the_log_is_not_or_is_in_doubt(
    log: dict[str, Any], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it says of the stream."""
    check, _, _ = running(monkeypatch, log_of(one=3, **log), ONE)
    proved: list[int] = []
    check.run(index=SimpleNamespace(begin=lambda *_: None, prove=proved.append))  # type: ignore[arg-type]
    assert proved == [size]


def test_a_part_of_a_ledger_misses_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a period none is judged; without a proof nothing is said of a checkpoint."""
    check, findings, asked = running(monkeypatch, log_of(proved=False, one=3, three=2), ONE)
    check._excerpt = True
    check.run()
    assert asked[0][2] == {"outside": ExternalEvidence()}
    assert asked[-1] == ("_check_completeness", asked[-1][1], {})
    assert asked[-3] == ("_conclude", asked[-3][1], asked[-1][1], set())
    assert steps(findings)[7] == ("not_checked", "1 stream, but no trusted signature proves the log")
    assert findings.period is None


def test_a_ledger_without_streams_or_keys_is_nothing_to_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are said in the first step; where the log names streams, these are missing."""
    check, findings, asked = running(monkeypatch, log_of())
    check.run(period=PERIOD)
    assert found(findings) == [
        ("no_trust", "there are no trusted keys; pass the trust file of the recorder", None, None),
        ("nothing_to_verify", "the ledger has no records", None, None),
    ]
    assert ([name for name, *_ in asked], findings.completeness_checked) == (["log"], False)
    assert findings.period == unknown_period(10, 20, "there are no records")
    assert isinstance(findings.period, Period)
    for step in range(1, 9):
        findings.done(step, "")
    assert [step.status for step in findings.report().steps] == ["not_checked", *["passed"] * 7]
    check, findings, asked = running(monkeypatch, log_of(one=3))
    check.run()
    assert asked[-1][2] == {ONE: 3}
