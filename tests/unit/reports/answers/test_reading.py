"""The pass over evidence: every fact once, joined and decoded, with what the verification says of its source."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from small_company import CLERK, DAY, DESK, ROUTED, START, span, traces, work

from agent_identity._authority.grants.grants import GRANT_TYPE
from agent_identity._identity.keys.jws import parse_compact, sign_compact
from agent_identity._record.parts import GrantToken, replaced
from agent_identity._record.schema import Detail
from agent_identity._reports.answers import decoding
from agent_identity._reports.answers.decoding import Decoder, Period, SplitCalls
from agent_identity._reports.answers.facts import (
    ApprovalFact,
    CallFact,
    CallSpanFact,
    Fact,
    GrantFact,
    SpanFact,
    TaskFact,
)
from agent_identity._reports.answers.reading import Reading, read
from agent_identity.answers import Evidence
from agent_identity.cli import main
from agent_identity.errors import ConfigurationError
from agent_identity.identity import SigningKey
from agent_identity.records import AnyRecord, Grant, Intent, Outcome, read_lines

VECTORS = Path(__file__).resolve().parents[3] / "vectors"


class Kept:
    """Keeps the facts of a pass."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def take(self, fact: Fact) -> None:
        """Keep a fact."""
        self.facts.append(fact)

    def of(self, kind: type) -> list[Any]:
        """Return the facts of a kind."""
        return [fact for fact in self.facts if isinstance(fact, kind)]


def passed(*sources: Path, **options: Any) -> tuple[Kept, Reading]:
    """Read sources; return the facts, and the end of the pass."""
    kept = Kept()
    return kept, read(Evidence(sources=sources, **options), kept)


def records_of(directory: Path) -> list[AnyRecord]:
    """Return the records of a directory in their order."""
    return [record for record, _ in read_lines(directory)]


def keys(facts: Iterable[Fact]) -> Counter[str]:
    """Return the facts, whatever their order and whatever the number of their source."""
    return Counter(repr(fact).replace("source=1", "source=0") for fact in facts)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of a company that worked for a while."""
    directory = tmp_path_factory.mktemp("company") / "evidence"
    work(directory, tasks=3, days=10)
    return directory


def damaged(directory: Path, target: Path) -> Path:
    """Return a copy of a directory in which one record was changed."""
    shutil.copytree(directory, target)
    warned = b'"effect":"warn"'
    entries = next(path for path in sorted(target.glob("ledger/*/entries*.jsonl")) if warned in path.read_bytes())
    entries.write_bytes(entries.read_bytes().replace(warned, b'"effect":"allow"', 1))
    return target


def test_each_call_is_its_intent_and_its_outcome(company: Path) -> None:
    """A call that ran has both, a refused one has none; who acted for whom is in each."""
    kept, reading = passed(company)
    calls = kept.of(CallFact)
    assert Counter((call.tool, call.outcome, call.begun) for call in calls) == {
        ("read", "success", True): 7,
        ("pay", "success", True): 3,
        ("pay", "denied", False): 3,
        ("delete", "denied", False): 1,
    }
    paid = next(call for call in calls if call.tool == "pay" and call.begun)
    assert [hop.id for hop in paid.chain] == ["clerk", "helper"]
    assert (paid.principal.id, paid.agent.id, paid.duration_ns) == ("alice@example.com", "helper", 0)
    outside = next(call for call in calls if call.tool == "delete")
    assert (outside.task, outside.agent, outside.decision.reason) == (None, None, "no_task")
    assert reading.sources[0].verdict == "verified"


def test_grants_are_decoded(company: Path) -> None:
    """Root and delegation say what they permit, who holds them and which of them comes from which."""
    kept, _ = passed(company)
    grants = {grant.hash: grant for grant in kept.of(GrantFact)}
    child = next(grant for grant in grants.values() if grant.depth)
    root = grants[child.parent]
    assert (child.root, root.parent, root.root) == (root.hash, None, root.hash)
    assert set(root.tools) == {"read", "pay", "delete"}
    assert child.tools == {"pay": {"amount": {"constraint_type": "range", "max": 50}}}
    assert (root.agent.id, root.agent.version, child.agent.id) == ("clerk", CLERK.version, "helper")
    assert root.kid is not None
    assert child.kid is None
    assert min(grant.issued_ns for grant in grants.values()) == START * 10**9


def test_every_record_belongs_to_at_most_one_fact(company: Path) -> None:
    """No fact comes twice, and the pass counts the records of the ledger."""
    kept, reading = passed(company)
    places = [fact.where for fact in kept.facts if not isinstance(fact, SpanFact | CallSpanFact)]
    assert len(places) == len(set(places))
    assert reading.sources[0].records == len(records_of(company))


@given(data=st.data())
def test_the_order_of_records_does_not_matter(company: Path, data: st.DataObject) -> None:
    """Streams are read one after the other, so an outcome may come before its intent: the facts are the same."""
    lines = [*read_lines(company)]
    kept, shuffled = Kept(), Kept()
    for order, facts in ((lines, kept), (data.draw(st.permutations(lines)), shuffled)):
        decoder = Decoder(0, facts.take, Period())
        for record, detail in order:
            decoder.visit(record, detail)
        decoder.finish()
    assert keys(kept.facts) == keys(shuffled.facts)


def apart(lines: Sequence[tuple[AnyRecord, Detail | None]], places: Sequence[int], proved: Sequence[bool]) -> list[Any]:
    """Return the calls of records that are spread over several sources, of which some are proved."""
    kept, split = Kept(), SplitCalls()
    for source, weight in enumerate(proved):
        decoder = Decoder(source, kept.take, Period(), split)
        for line, place in zip(lines, places, strict=True):
            if place == source:
                decoder.visit(*line)
        decoder.finish(proved=weight)
    return [*kept.of(CallFact), *split.calls()]


def call_of(call: CallFact) -> str:
    """Return the id of a call."""
    return call.intent or call.where.record


@given(data=st.data())
def test_a_call_counts_once_wherever_its_records_are(company: Path, data: st.DataObject) -> None:
    """Intent and outcome may stand in any of several sources of one weight: the calls are those of one source."""
    lines = [*read_lines(company)]
    whole = apart(lines, [0] * len(lines), [True])
    places = data.draw(st.lists(st.integers(0, 2), min_size=len(lines), max_size=len(lines)))
    weight = data.draw(st.booleans())
    found = apart(lines, places, [weight] * 3)
    assert Counter(map(call_of, found)) == Counter(map(call_of, whole))
    told = {call_of(call): structs.replace(call, where=whole[0].where) for call in whole}
    assert all(structs.replace(call, where=whole[0].where) == told[call_of(call)] for call in found)


@given(data=st.data())
def test_an_unproved_part_of_a_call_neither_counts_twice_nor_hides_a_proved_one(
    company: Path, data: st.DataObject
) -> None:
    """Where sources differ in weight each call still counts once, and a proved record of it is never left out."""
    lines = [*read_lines(company)]
    places = data.draw(st.lists(st.integers(0, 1), min_size=len(lines), max_size=len(lines)))
    found = apart(lines, places, [True, False])
    assert max(Counter(map(call_of, found)).values()) == 1
    shown = {call.where.record for call in found if not call.where.source}
    shown |= {call.intent for call in found if not call.where.source and call.begun and call.intent is not None}
    proved = {
        record.id
        for (record, _), place in zip(lines, places, strict=True)
        if not place and isinstance(record, Intent | Outcome)
    }
    assert proved <= shown


@pytest.mark.parametrize("proved", [True, False])
def test_a_second_end_of_a_call_is_told_and_does_not_replace_the_first(company: Path, *, proved: bool) -> None:
    """Two sources that tell differently how a call of a third one ended: one counts, and the other is counted."""
    records = records_of(company)
    outcome = next(one for one in records if isinstance(one, Outcome) and one.intent is not None)
    intent = next(one for one in records if one.id == outcome.intent)
    kept, split = Kept(), SplitCalls()
    for source, record in enumerate((intent, outcome, replaced(outcome, outcome="error", error="late"))):
        decoder = Decoder(source, kept.take, Period(), split)
        decoder.visit(record)
        decoder.finish(proved=proved)
    (call,) = split.calls()
    assert (call.outcome, call.where.source, split.dropped) == (outcome.outcome, 1, Counter({2: 1}))


@pytest.mark.parametrize("cuts", [(3, 9), (9, 3), (14, 20), (0, 8), (7, 7)])
def test_a_call_counts_once_over_copies_of_a_ledger(company: Path, tmp_path: Path, cuts: Sequence[int]) -> None:
    """Copies of different ages, of which one ends between an intent and its outcome, tell each call once."""
    copies = []
    for number, cut in enumerate(cuts):
        copies.append(shutil.copytree(company, tmp_path / str(number)))
        for entries in copies[-1].glob("ledger/*/entries*.jsonl"):
            entries.write_bytes(b"".join(entries.read_bytes().splitlines(keepends=True)[: cut or None]))
    found = passed(*copies, unverified=True)[0].of(CallFact)
    longest = max(copies, key=lambda copy: len(records_of(copy)))
    whole = passed(longest, unverified=True)[0].of(CallFact)
    assert whole
    assert Counter(map(call_of, found)) == Counter(map(call_of, whole))
    assert {call_of(call): call.outcome for call in found} == {call_of(call): call.outcome for call in whole}


def test_what_waits_may_go_to_the_disk(company: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two waiting records in memory, the facts are the same."""
    whole = passed(company)[0]
    monkeypatch.setattr(decoding, "_NEAR", 2)
    kept = Kept()
    decoder = Decoder(0, kept.take, Period())
    for record, detail in reversed([*read_lines(company)]):
        decoder.visit(record, detail)
    decoder.finish()
    assert keys(kept.facts) == keys(whole.facts)


def test_several_directories_are_the_sum_of_their_parts(company: Path, tmp_path: Path) -> None:
    """A tree of directories yields what its directories yield, each with a verdict of its own."""
    work(tmp_path / "tree" / "a" / "evidence", start=START + 40 * DAY)
    shutil.copytree(company, tmp_path / "tree" / "b" / "evidence")
    both, reading = passed(tmp_path / "tree")
    one, _ = passed(tmp_path / "tree" / "a" / "evidence")
    two, _ = passed(company)
    assert keys(both.facts) == keys(one.facts) + keys(two.facts)
    assert [source.verdict for source in reading.sources] == ["verified", "verified"]


def test_a_record_in_two_sources_counts_once(company: Path, tmp_path: Path) -> None:
    """A copy of a directory adds nothing, and the frame says how many records were there already."""
    shutil.copytree(company, tmp_path / "copy")
    once, _ = passed(company)
    twice, reading = passed(company, tmp_path / "copy")
    assert keys(once.facts) == keys(twice.facts)
    assert reading.sources[1].records == 0
    assert any("earlier source" in note for note in reading.sources[1].not_shown)


def test_a_source_that_is_not_proved_hides_nothing_of_a_later_one(company: Path, tmp_path: Path) -> None:
    """A copy with one changed record, read first, leaves all facts of the original as they are."""
    bad = damaged(company, tmp_path / "bad")
    kept, reading = passed(bad, company)
    whole, _ = passed(company)
    there = [fact for fact in kept.facts if getattr(fact, "where", None) is not None and fact.where.source == 1]
    assert keys(there) == keys(whole.facts)
    assert reading.sources[1].records == len(records_of(company))
    assert any("again" in note for note in reading.sources[0].not_shown)


def test_a_span_that_was_exported_twice_is_one_call_without_verification(tmp_path: Path) -> None:
    """Exporters send a span again when no answer came; without verification it counts once as well."""
    lines = (VECTORS / "spans.jsonl").read_text("utf-8")
    (tmp_path / "once.jsonl").write_text(lines, "utf-8")
    (tmp_path / "twice.jsonl").write_text(lines + lines, "utf-8")
    once, _ = passed(tmp_path / "once.jsonl", unverified=True)
    twice, _ = passed(tmp_path / "twice.jsonl", unverified=True)
    assert once.of(CallFact)
    assert keys(twice.of(CallFact)) == keys(once.of(CallFact))


def test_nothing_of_a_contradicted_source_is_proved(company: Path, tmp_path: Path) -> None:
    """One changed record takes the proof from all of the source; the other source keeps its own."""
    bad = damaged(company, tmp_path / "bad")
    work(tmp_path / "good", start=START + 40 * DAY)
    _, reading = passed(bad, tmp_path / "good")
    assert [(source.verdict, source.proved) for source in reading.sources] == [
        ("contradicted", False),
        ("verified", True),
    ]
    frame = reading.frame("test", Evidence(sources=bad), ())
    assert (frame.verdict, frame.exit_code) == ("contradicted", 1)
    assert (frame.proof([0]), frame.proof([1]), frame.proof([0, 1])) == ("recorded", "proved", "recorded")


def test_records_after_the_last_seal_are_no_facts(company: Path, tmp_path: Path) -> None:
    """What nothing proves is left out, and the frame says how much that is."""
    shutil.copytree(company, tmp_path / "evidence")
    whole, _ = passed(company)
    (entries,) = (tmp_path / "evidence").glob("ledger/*/entries.jsonl")
    number = len(records_of(tmp_path / "evidence"))
    with entries.open("ab") as file:  # A line that no head of the log covers.
        file.write(entries.read_bytes().splitlines(keepends=True)[-1])
    kept, reading = passed(tmp_path / "evidence")
    assert keys(kept.facts) == keys(whole.facts)
    assert reading.sources[0].verdict != "verified"
    assert reading.sources[0].records == number


def test_without_verification_the_same_facts_are_unproved(company: Path) -> None:
    """``unverified`` changes the verdict, the exit code and the proof, and not the facts."""
    kept, reading = passed(company, unverified=True)
    assert keys(kept.facts) == keys(passed(company)[0].facts)
    frame = reading.frame("test", Evidence(sources=company, unverified=True), ())
    assert (frame.verdict, frame.exit_code, frame.verified) == ("unverified", 2, False)
    assert frame.proof([0]) == "recorded"
    assert any("nothing was verified" in note for note in frame.notes)


def test_another_trust_file_proves_nothing(company: Path, tmp_path: Path) -> None:
    """With the keys of somebody else the verification cannot tell, and nothing is proved."""
    work(tmp_path / "other", start=START + 40 * DAY)
    _, reading = passed(company, trust=tmp_path / "other" / "trust.json")
    assert reading.sources[0].verdict != "verified"
    assert not reading.sources[0].proved


def test_the_keys_are_named_with_their_origin(company: Path, tmp_path: Path) -> None:
    """A trust file that was given is told apart from one beside the ledger."""
    shutil.copy(company / "trust.json", tmp_path / "kept.json")
    own, given_ = (passed(company, trust=trust)[1].sources[0] for trust in (None, tmp_path / "kept.json"))
    assert (own.trust, given_.trust) == ("self-asserted", "given")
    assert own.keys == given_.keys
    assert given_.keys_from == str(tmp_path / "kept.json")
    assert own.keys_from is not None
    assert "beside" in own.keys_from


def test_a_period_takes_calls_by_their_time_and_grants_by_their_life(company: Path) -> None:
    """Calls of the middle task alone; its grants live then, and those of the others do not."""
    begin = START + 9 * DAY
    kept, _ = passed(company, from_ns=begin * 10**9, until_ns=(begin + 5 * DAY) * 10**9)
    assert len(kept.of(CallFact)) == 4
    assert len({task.task for task in kept.of(TaskFact)}) == 1
    assert {grant.task for grant in kept.of(GrantFact)} == {call.task for call in kept.of(CallFact)}


def test_a_bundle_is_read_like_its_directory(company: Path, tmp_path: Path, bundled: Callable[..., Path]) -> None:
    """The facts in a bundle are those of the directory that it was made of."""
    kept, reading = passed(bundled(company, tmp_path / "b.zip"))
    assert keys(kept.facts) == keys(passed(company)[0].facts)
    assert reading.sources[0].kind == "bundle"


@pytest.fixture
def bundled() -> Callable[..., Path]:
    """Makes a bundle."""

    def make(directory: Path, target: Path) -> Path:
        assert main(["bundle", str(directory), "--output", str(target)]) == 0
        return target

    return make


def test_spans_of_ours_are_facts_if_they_verify() -> None:
    """The golden spans yield calls under the golden trust file, and hints without it."""
    spans, trust = VECTORS / "spans.jsonl", VECTORS / "evidence" / "trust.json"
    kept, reading = passed(spans, trust=trust)
    assert kept.of(CallFact)
    assert not [fact for fact in kept.of(SpanFact) if fact.library == "agent_identity"]
    assert reading.sources[0].proved
    hints, doubted = passed(spans)
    assert not hints.of(CallFact)
    assert hints.of(SpanFact)
    assert not doubted.sources[0].proved
    assert not doubted.sources[0].only_hints


def test_spans_of_others_are_hints_and_no_doubt(company: Path, tmp_path: Path) -> None:
    """Beside a ledger that verifies, spans that nobody signed leave the verdict alone."""
    path = traces(tmp_path / "t.json", [span({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "pay"})])
    kept, reading = passed(company, path)
    assert [(fact.kind, fact.name, fact.service) for fact in kept.of(SpanFact)] == [("tool", "pay", "shop")]
    frame = reading.frame("test", Evidence(sources=company), ())
    assert frame.verdict == "verified"
    alone = passed(path)[1].frame("test", Evidence(sources=path), ())
    assert (alone.verdict, alone.exit_code) == ("cannot_tell", 2)


def test_a_file_by_two_paths_is_read_once(tmp_path: Path) -> None:
    """Hints have no ids that every exporter keeps, so a file counts once, however often and by whatever path."""
    path = traces(tmp_path / "t.json", [span({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "pay"})])
    (tmp_path / "link.json").symlink_to(path)
    kept, reading = passed(path, tmp_path / "." / ".." / tmp_path.name / "t.json", tmp_path / "link.json")
    assert len(kept.of(SpanFact)) == 1
    assert [source.hints for source in reading.sources] == [1]


def test_approvals_name_who_answered(tmp_path: Path) -> None:
    """The question and its answer are facts, and the call that was approved names the approver."""
    work(tmp_path / "evidence", policy=ROUTED, routes=DESK)
    kept, reading = passed(tmp_path / "evidence")
    answers = [(fact.tool, fact.approval.status, fact.approval.approver) for fact in kept.of(ApprovalFact)]
    assert [(tool, status) for tool, status, _ in answers] == [("pay", "pending"), ("pay", "approved")]
    assert [call.approver.id for call in kept.of(CallFact) if call.approver is not None] == ["bob@example.com"]
    assert reading.sources[0].verdict == "verified"


def test_a_grant_that_is_none_is_counted(company: Path) -> None:
    """A record whose token is no grant yields no fact, and the frame can say so."""
    kept = Kept()
    decoder = Decoder(0, kept.take, Period())
    for record in records_of(company):
        bad = isinstance(record, Grant)
        decoder.visit(replaced(record, grant=GrantToken(token="e30.e30.AA")) if bad else record)
    assert decoder.undecoded
    assert not kept.of(GrantFact)


@pytest.mark.parametrize(
    "claims",
    [{"exp": 2**53 - 1}, {"iat": -1}, {"iat": 253_402_300_800}, {"del_depth": 2**53 - 1}, {"del_depth": -1}],
    ids=str,
)
def test_a_grant_with_claims_of_no_sense_is_counted(company: Path, claims: dict[str, int]) -> None:
    """Times that no calendar has, and a depth that is not that of the chain, yield no fact that a report shows."""
    key = SigningKey.generate()
    kept = Kept()
    decoder = Decoder(0, kept.take, Period())
    for each in records_of(company):
        record = each
        if isinstance(record, Grant):
            said = {**parse_compact(record.grant.token).unverified(GRANT_TYPE), **claims}
            token = sign_compact({"kid": key.public_key.thumbprint, "typ": GRANT_TYPE}, said, key)
            record = replaced(record, grant=GrantToken(token=token))
        decoder.visit(record)
    assert decoder.undecoded
    assert not kept.of(GrantFact)


@pytest.mark.parametrize("sources", [[], ["nowhere"]])
def test_no_evidence_is_refused(sources: list[str]) -> None:
    """A path without anything is an error, and never an empty answer."""
    with pytest.raises(ConfigurationError):
        read(Evidence(sources=sources), Kept())


def test_a_folder_without_evidence_is_refused(tmp_path: Path) -> None:
    """An empty folder says nothing about anybody."""
    with pytest.raises(ConfigurationError):
        read(Evidence(sources=tmp_path), Kept())


def test_links_in_a_tree_are_not_followed(company: Path, tmp_path: Path) -> None:
    """A link to evidence elsewhere is no part of a tree."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(company)
    with pytest.raises(ConfigurationError):
        read(Evidence(sources=tmp_path / "tree"), Kept())


def test_reading_writes_nothing(company: Path, tmp_path: Path) -> None:
    """The evidence has the same files with the same times afterwards."""
    shutil.copytree(company, tmp_path / "evidence")

    def state() -> list[tuple[str, int, int]]:
        paths = sorted((tmp_path / "evidence").rglob("*"))
        return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]

    before = state()
    passed(tmp_path / "evidence")
    assert state() == before
