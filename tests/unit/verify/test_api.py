"""The two entries by themselves: what they are given reaches those who need it, and what cannot be is refused."""

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agent_identity import Report, Verifier, verify
from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._storage.layout import Layout
from agent_identity._verify import _reconcile as comparison
from agent_identity._verify import api as verification
from agent_identity._verify._reconcile import Comparison
from agent_identity._verify.inputs.sources import kept_note
from agent_identity._verify.ledger import directory_check
from agent_identity._verify.ledger.external_evidence import ExternalEvidence
from agent_identity._verify.ledger.ledger_check import LEDGER_STEPS
from agent_identity._verify.report.findings import Findings
from agent_identity._verify.report.report import Problem
from agent_identity._verify.spans.spans_check import SPAN_STEPS
from agent_identity._verify.store.workers import in_process
from agent_identity.errors import ConfigurationError, VerificationError
from agent_identity.identity import SigningKey, TrustedKey, TrustStore, Witnesses
from agent_identity.options import Ledger
from agent_identity.testing import FixedClock, SequentialIds

KEY = SigningKey.from_seed(bytes([1]) * 32)
WITNESS, ANOTHER = (
    Cosigner(f"w.example/{seed}", SigningKey.from_seed(bytes([seed]) * 32).public_key) for seed in (2, 3)
)
TRUST = TrustStore((TrustedKey(KEY.public_key, "recorder"),), origin="x.example", witnesses=Witnesses((ANOTHER,)))
PERIOD = (1, 2)


def stamp(note: bytes, token: bytes) -> int:
    """Say a time."""
    return 7


def tell(done: int, total: int) -> None:
    """Hear how far it is."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An evidence directory with one stream."""
    given = {"signer": KEY, "origin": "x.example", "clock": FixedClock(), "ids": SequentialIds()}
    with Ledger.open(tmp_path / "evidence", **given):
        pass
    return tmp_path / "evidence"


def refused(words: str, make: Callable[[], object]) -> None:
    """Assert the whole message of a refusal."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert str(caught.value) == words


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[object, ...], Mapping[str, object]]]:
    """What the parts of the module are asked for; they answer with their name."""
    asked: list[tuple[tuple[object, ...], Mapping[str, object]]] = []

    def noting(name: str) -> Callable[..., str]:
        def note(*given: object, **named: object) -> str:
            asked.append((given, named))
            return name

        return note

    for name in ("check_directory", "_check_spans"):
        monkeypatch.setattr(verification, name, noting(name))
    return asked


def test_a_ledger_is_judged_by_all_that_is_given(directory: Path, asked: list[Any], tmp_path: Path) -> None:
    """Keys, what others say, the period, the archive: nothing that was asked for is left out."""
    given = {"archive": "a", "disclosures": ["d"], "period": PERIOD}
    own = {"processes": 3, "progress": tell}
    verifier = Verifier(TRUST, witnesses=[WITNESS.vkey], require=1, timestamps=stamp, **own)
    expected = {**given, **own, "keys": TRUST, "outside": ExternalEvidence(b"note", Witnesses((WITNESS,), 1), stamp)}
    assert verifier.ledger(directory, checkpoint=b"note", **given) == "check_directory"
    assert asked == [((str(directory),), expected)]
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as bundle:
        for path in directory.rglob("*"):
            bundle.write(path, f"evidence/{path.relative_to(directory)}")
    assert verifier.ledger(tmp_path / "b.zip", checkpoint=b"note", **given) == "check_directory"
    assert asked[1][1] == expected
    assert Verifier().ledger(directory) == "check_directory"
    nothing = {"archive": None, "disclosures": (), "processes": 1, "progress": None, "period": None}
    assert asked[2] == ((str(directory),), {**nothing, "keys": None, "outside": ExternalEvidence()})
    (tmp_path / "note").write_bytes(b"kept")
    Verifier().ledger(directory, checkpoint=tmp_path / "note")
    assert asked[3][1]["outside"] == ExternalEvidence(b"kept")


def test_spans_are_judged_by_all_that_is_given(asked: list[Any]) -> None:
    """One source, or several, with the ledger, the attributes and the disclosures."""
    one, two = io.BytesIO(), io.BytesIO()
    given = {"ledgers": ["l"], "redacted": ["r"], "disclosures": ["d"]}
    for sources, ledger in (((one,), "l"), ((one, two), ["l"])):
        asking = {**given, "ledger": ledger}
        del asking["ledgers"]
        assert Verifier(TRUST, progress=tell).traces(*sources, **asking) == "_check_spans"
        got, named = asked.pop()
        assert got == (sources, TRUST)
        assert {name: named[name] for name in (*given, "progress")} == {**given, "progress": tell}
    assert Verifier().traces(one) == "_check_spans"
    got, named = asked.pop()
    assert (got, named["ledgers"], named["redacted"], named["progress"], named["disclosures"]) == (
        ((one,), None),
        *((), (), None, ()),
    )
    assert Verifier(TRUST).pasted(one, redacted=["r"]) == "_check_spans"
    got, named = asked.pop()
    assert (got, named["redacted"], named["pasted"]) == (((one,), TRUST), ["r"], True)


def test_pasted_spans_come_as_text_bytes_or_files(asked: list[Any], tmp_path: Path) -> None:
    """A text that holds no JSON may be meant as a path, and is refused; standard input keeps its name."""
    file = io.BytesIO()
    Verifier(TRUST).pasted('{"a": 1}', b"[]", tmp_path / "absent", "-", file)
    text, data, path, stdin, same = asked.pop()[0][0]
    assert (text.read(), data.read(), path, stdin) == (b'{"a": 1}', b"[]", tmp_path / "absent", "-")
    assert same is file
    refused(
        "no JSON in the pasted text; give the text itself, or a Path of a file with it",
        lambda: Verifier(TRUST).pasted("span.json"),
    )


def test_what_is_no_file_is_refused() -> None:
    """Neither a number nor a list, and text only where it is pasted."""
    for source in (7, None, ["a.jsonl"], b"{}"):
        with pytest.raises(TypeError, match="no file of spans"):
            Verifier(TRUST).traces(source)  # type: ignore[arg-type]


def test_verify_asks_a_verifier(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """A directory and a bundle are ledgers, all else are traces; one that does not hold is raised."""
    holds = Verifier(replace(TRUST, witnesses=Witnesses(()))).ledger(directory)
    seen: list[object] = []

    def note(_: object, *sources: object) -> Report:
        seen.append(sources)
        return holds

    monkeypatch.setattr(Verifier, "ledger", note)
    monkeypatch.setattr(Verifier, "traces", note)
    for source in (directory, "b.zip", "s", ["s", "t"]):
        assert verify(source) is holds
    assert seen == [(directory,), ("b.zip",), ("s",), ("s", "t")]


@pytest.mark.parametrize(
    ("integrity", "completeness", "verdict"),
    [
        ("contradicted", "complete", "contradicted"),
        ("cannot_tell", "complete", "cannot_tell"),
        ("verified", "incomplete", "incomplete"),
    ],
)
def test_a_report_raises_what_was_found_first(directory: Path, integrity: Any, completeness: Any, verdict: str) -> None:
    """The worst problem stands in the message, the verdict is the code, and the report is at hand."""
    holds = Verifier(replace(TRUST, witnesses=Witnesses(()))).ledger(directory)
    assert holds.raise_for_status() is holds
    nowhere = (None, None, None, None)
    found = (Problem("x", "cannot_tell", *nowhere, "expected a, got b"), Problem("y", "notice", *nowhere, "other"))
    report = replace(holds, integrity=integrity, completeness=completeness, findings=found)
    with pytest.raises(VerificationError) as caught:
        report.raise_for_status()
    assert (str(caught.value), caught.value.code) == (f"{verdict}: expected a, got b", verdict)
    assert caught.value.report is report


def test_what_cannot_be_asked_of_a_source_is_refused(directory: Path) -> None:
    """Directories as spans, spans as a ledger, nothing at all, a ledger without keys, a period of no length."""
    words = "the period ends before it begins; exchange the two times"
    for stop in (5, 4):
        refused(words, lambda stop=stop: Verifier().ledger(directory, period=(5, stop)))
    words = "an evidence directory is no file of spans; use Verifier.ledger, or ledger="
    refused(words, lambda: Verifier().pasted(directory))
    refused(words, lambda: Verifier().traces(directory))
    words = "no evidence directory and no bundle is at 'spans.jsonl'; use Verifier.traces for files of spans"
    refused(words, lambda: Verifier().ledger("spans.jsonl"))
    refused("nothing to verify; give one or several files of spans", lambda: Verifier().traces())
    words = "ledger= needs trusted keys; give Verifier(trust) a copy kept elsewhere"
    refused(words, lambda: Verifier().traces(io.BytesIO(b"{}"), ledger=directory))


@pytest.mark.parametrize(
    "options",
    [{"witnesses": [WITNESS.vkey]}, {"require": 1}, {"timestamps": stamp}, {"processes": 2}, {"progress": tell}],
    ids=lambda options: next(iter(options)),
)
def test_an_option_that_says_nothing_here_is_refused(options: dict[str, Any]) -> None:
    """It would look as if it had been honored."""
    verifier, (name,) = Verifier(TRUST, **options), options
    calls: dict[str, Callable[[], object]] = {
        "a proof": lambda: verifier.proof(b""),
        "a disclosure": lambda: verifier.disclosure(b"", ledger="l"),
    }
    if name not in ("processes", "progress"):
        calls["spans"] = lambda: verifier.traces(io.BytesIO())
    for what, call in calls.items():
        refused(f"{name}= does not apply to {what}; use a Verifier without it", call)


def test_witnesses_are_those_that_are_given_or_trusted() -> None:
    """A number alone is one of those in the trust file, and a text that is no key is refused."""
    assert verification._witnesses((), None, TRUST) is None
    assert verification._witnesses((), 1, TRUST) == Witnesses((ANOTHER,), 1)
    assert verification._witnesses([WITNESS.vkey], None, TRUST) == Witnesses((WITNESS,))
    both = [WITNESS.vkey, ANOTHER.vkey]
    assert verification._witnesses(both, 1, None) == Witnesses((WITNESS, ANOTHER), 1)
    for given, require in ((["junk"], None), ([WITNESS.vkey], 2), ((), 1)):
        with pytest.raises(ConfigurationError, match=r"^bad witnesses: ") as caught:
            verification._witnesses(given, require, None)
        assert caught.value.__suppress_context__


def test_a_checkpoint_that_is_kept_has_a_size(tmp_path: Path) -> None:
    """As much as a note may have and one byte, by which it is found out, is read; more is refused."""
    (tmp_path / "note").write_bytes(bytes(65_537))
    assert kept_note(tmp_path / "note") == bytes(65_537)
    (tmp_path / "note").write_bytes(bytes(65_538))
    with pytest.raises(ConfigurationError):
        kept_note(tmp_path / "note")
    assert kept_note(b"x") == b"x"


def own_trust(directory: Path) -> tuple[TrustStore | None, Report]:
    """Return what a directory says about itself, and what is said about that."""
    findings = Findings("ledger", LEDGER_STEPS)
    findings.trust = "given"
    keys = directory_check._own_trust(str(directory), findings)
    for step in (1, 2):
        findings.done(step, "")
    return keys, findings.report()


def test_what_a_directory_says_about_itself(tmp_path: Path) -> None:
    """Nothing, or keys that are called self-asserted; what is no trust file leaves the question open."""
    keys, report = own_trust(tmp_path)
    assert (keys, report.trust, report.findings) == (None, "none", ())
    TRUST.save(tmp_path / "trust.json")
    keys, report = own_trust(tmp_path)
    assert (keys, report.trust, report.findings) == (TRUST, "self-asserted", ())
    (tmp_path / "trust.json").unlink()
    (tmp_path / "trust.json").symlink_to(tmp_path / "nowhere")
    keys, report = own_trust(tmp_path)
    (problem,) = report.findings
    assert (keys, report.trust, problem.code) == (None, "none", "bad_trust")
    assert problem.message
    assert [step.status for step in report.steps[:2]] == ["not_checked", "passed"]
    (tmp_path / "trust.json").unlink()
    (tmp_path / "trust.json").write_text("{}")
    assert own_trust(tmp_path)[1].findings[0].code == "bad_trust"


class Checked:
    """A check of a ledger that notes how it was made and run."""

    made: ClassVar[list["Checked"]] = []

    def __init__(self, *given: object, **named: object) -> None:
        self.given, self.named, self.ran = given, named, None
        self.made.append(self)

    def run(self, **asked: object) -> None:
        """Note it."""
        self.ran = asked


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[Checked]:
    """The checks of ledgers that are made."""
    monkeypatch.setattr(directory_check, "LedgerCheck", Checked)
    monkeypatch.setattr(Checked, "made", [])
    return Checked.made


def test_a_ledger_is_read_by_so_many_processes_as_are_worth_it(
    directory: Path, checked: list[Checked], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for each 16 MiB and one more, where the number is left open."""
    chosen: list[tuple[object, object]] = []

    @contextmanager
    def choose(number: object, *, most: object = None) -> Iterator[object]:
        chosen.append((number, most))
        yield "executor"

    monkeypatch.setattr(directory_check, "executor", choose)
    sizes = iter([(1 << 24) - 1, 5 << 24, 7 << 24])
    monkeypatch.setattr(directory_check, "size_of_ledger", lambda reader: next(sizes))
    outside = ExternalEvidence(b"x")
    report = Verifier(TRUST).ledger(directory, disclosures=["d"], checkpoint=b"x", period=PERIOD)
    assert (report.source, report.trust) == ("ledger", "given")
    assert [step.name for step in report.steps] == list(LEDGER_STEPS)
    (made,) = checked
    reader, keys, findings, disclosures = made.given
    assert (reader.streams(), keys, findings.report(), disclosures) == (
        tuple(p.name for p in (directory / "ledger").iterdir()),
        TRUST,
        report,
        ["d"],
    )
    assert (made.named, made.ran) == (
        {"executor": "executor"},
        {"outside": outside, "total": (1 << 24) - 1, "progress": None, "period": PERIOD, "visit": None},
    )
    Verifier(processes=0).ledger(directory)
    Verifier(processes=3, progress=tell).ledger(directory)
    assert chosen == [(1, 1), (0, 6), (3, 8)]
    assert checked[2].ran == {
        "outside": ExternalEvidence(),
        "total": 7 << 24,
        "progress": tell,
        "period": None,
        "visit": None,
    }


def test_an_archive_has_what_was_pruned(directory: Path, tmp_path: Path, checked: list[Checked]) -> None:
    """The reader is one of the directory and of its archive."""
    Verifier().ledger(directory, archive=tmp_path)
    Verifier().ledger(directory)
    archives = [made.given[0]._archive for made in checked]
    assert archives == [Layout.of(tmp_path), None]


class Spans:
    """A check of spans that notes what it is given."""

    made: ClassVar[list["Spans"]] = []

    def __init__(self, *given: object, **named: object) -> None:
        self.given, self.named, self.said = given, named, []
        self.made.append(self)

    def read_pasted(self, file: Any) -> None:
        """Read all of it."""
        self.said.append(file.readline(100))

    def finish(self) -> None:
        """Note it, and say of two steps that they were taken."""
        self.said.append("finished")
        for step in (1, 2):
            self.given[1].done(step, "")


def test_pasted_spans_of_every_source_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other."""
    monkeypatch.setattr("agent_identity._verify.spans.spans_check.SpansCheck", Spans)
    monkeypatch.setattr(Spans, "made", spans := [])
    sources = [io.BytesIO(b"one"), io.BytesIO(b"two")]
    report = Verifier(TRUST).pasted(*sources, redacted=["r"])
    (made,) = spans
    assert (made.given[0], made.named, made.said) == (
        TRUST,
        {"redacted": ["r"], "disclosures": (), "executor": in_process, "visit": None},
        [b"one", b"two", "finished"],
    )
    assert (report.source, report.trust, report.findings) == ("traces", "given", ())
    assert [step.name for step in report.steps] == list(SPAN_STEPS)
    assert Verifier().pasted(*sources).trust == "none"
    assert spans[1].given[0] is None


class Broken(io.BytesIO):
    """A file that cannot be read."""

    def read1(self, size: int | None = -1, /) -> bytes:
        """Fail."""
        raise OSError


def test_spans_of_every_source_are_read() -> None:
    """What cannot be read to its end is named; what is said of the keys is what was given."""
    sources = [Broken(), io.BytesIO(b"{}\n"), Broken()]
    report = Verifier(TRUST).traces(*sources)
    assert (report.source, report.trust) == ("traces", "given")
    assert [step.name for step in report.steps] == list(SPAN_STEPS)
    words = "the file of spans cannot be read to its end; copy it again"
    found = [(p.code, p.message) for p in report.findings if p.code == "unreadable"]
    assert found == [("unreadable", words)] * 2
    assert sources[1].read() == b""
    assert (Verifier().traces(*sources).trust, report.steps[0].status) == ("none", "not_checked")


def test_spans_are_compared_with_their_ledger_under_trusted_keys(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a ledger or keys there is nothing to compare with."""
    compared: list[object] = []

    def comparing(ledgers: Any, keys: TrustStore, findings: Findings) -> Comparison:
        compared.append((ledgers, keys))
        return Comparison(ledgers, keys, findings)

    monkeypatch.setattr(comparison, "Comparison", comparing)
    report = Verifier(TRUST).traces(io.BytesIO(b"{}"), ledger=directory)
    assert compared == [([directory], TRUST)]
    assert "proved_by_ledger" in report.counts
    assert "proved_by_ledger" not in Verifier(TRUST).traces(io.BytesIO(b"{}")).counts
    assert len(compared) == 1
