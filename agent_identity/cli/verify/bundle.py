"""``agent-identity bundle``: pack the evidence for an auditor, and the running package as a wheel, into one file."""

import argparse
import base64
import hashlib
import io
import json
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from pkgutil import get_data
from typing import Final

from agent_identity._verify.api import Verifier
from agent_identity._verify.proofs.bundle import Choice, collect, pack, report_json
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.report.report import Report
from agent_identity.cli.terminal.parsing import moment_ns
from agent_identity.cli.terminal.sources import is_directory, named
from agent_identity.cli.terminal.style import Style, clean
from agent_identity.cli.verify.verify import lines
from agent_identity.errors import ConfigurationError
from agent_identity.version import VERSION

_MAX_POLICY: Final = 4 * 1024 * 1024

_README: Final = (get_data(__name__, "bundle_readme.txt") or b"").decode()

_EXCERPT: Final = """
This is an excerpt. Of the records between those that are shown only the hashes are here; they prove the place of each
record that is shown, and say nothing else. The verifier calls an excerpt incomplete, because nothing shows what is
not in it: exit code 3 is what to expect.
"""

_DISTRIBUTION: Final = "agent-identity-otel"
_PACKAGE: Final = Path(__file__).parents[2]
_INFO: Final = f"agent_identity_otel-{VERSION}.dist-info"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_WHEEL: Final = "Wheel-Version: 1.0\nGenerator: agent-identity\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    named([chosen.directory])
    if not is_directory(chosen.directory):
        raise ConfigurationError(f"{chosen.directory!r} is a file; name an evidence directory")
    choice = Choice(
        chosen.task,
        None if chosen.begin is None else moment_ns(chosen.begin),
        None if chosen.until is None else moment_ns(chosen.until),
    )
    others = {f"policy/{Path(path).name}": _policy(path) for path in chosen.policy}
    if len(others) != len(chosen.policy):
        raise ConfigurationError("two policy files have the same name; rename one")
    with tempfile.TemporaryDirectory(prefix="agent-identity-") as folder:
        evidence = Path(folder) / "evidence"
        evidence.mkdir(0o700)
        collect(chosen.directory, evidence, choice, archive=chosen.archive)
        report = Verifier(chosen.trust).ledger(evidence)
        wheel, packed = own_wheel()
        digest = hashlib.sha256(packed).hexdigest()
        texts = _texts(choice, report, wheel, digest)
        pack(chosen.output, evidence, {**others, **texts, f"verifier/{wheel}": packed})
    size = Path(chosen.output).stat().st_size
    if chosen.json:
        facts = {"path": chosen.output, "bytes": size, "verdict": report.verdict, "exit_code": report.exit_code}
        verifier = {"wheel": wheel, "sha256": digest}
        print(json.dumps({**facts, "records": report.counts.get("records", 0), "verifier": verifier}))
        return report.exit_code
    verdict, records = report.verdict.replace("_", " "), counted(report.counts.get("records", 0), "record")
    print(f"{clean(chosen.output)}: {verdict}, {records}, {size:,} bytes")
    print(f"verifier: {wheel}, SHA-256 {digest}")
    return report.exit_code


def _texts(choice: Choice, report: Report, wheel: str, digest: str) -> dict[str, bytes]:
    what = "all of them" if choice.everything else "an excerpt"
    note = "" if choice.everything else _EXCERPT
    text = "\n".join(lines(report, Style(io.StringIO(), {})))
    return {
        "README.txt": (_README.format(what=what, version=VERSION, wheel=wheel, digest=digest) + note).encode(),
        "report.json": report_json(report),
        "report.txt": f"{text}\n".encode(),
    }


def _policy(path: str) -> bytes:
    with Path(path).open("rb") as file:
        data = file.read(_MAX_POLICY + 1)
    if len(data) > _MAX_POLICY:
        raise ConfigurationError(f"a policy file is larger than {_MAX_POLICY:,} bytes; give a smaller one")
    return data


def own_wheel() -> tuple[str, bytes]:
    """Return the file name and the bytes of a wheel of the running package.

    The same source gives the same bytes on every machine: members are sorted, undated, and not compressed. The format
    is that of the binary distribution format of PyPA, version 1.0.

    Raises:
        ConfigurationError: The package runs without its metadata, for example from a copied folder.
    """
    files = {
        path.relative_to(_PACKAGE.parent).as_posix(): path.read_bytes()
        for path in _PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    files |= {f"{_INFO}/{name}": text.encode() for name, text in _metadata().items()}
    rows = [f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in sorted(files.items())]
    record = f"{_INFO}/RECORD"
    files[record] = "".join([*rows, f"{record},,\n"]).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, data)
    return f"agent_identity_otel-{VERSION}-py3-none-any.whl", packed.getvalue()


def _metadata() -> dict[str, str]:
    try:
        installed = distribution(_DISTRIBUTION)
    except PackageNotFoundError:
        raise ConfigurationError(
            "the package runs without its metadata, so that no wheel of it can be packed; install it from the "
            "checkout with pip install ."
        ) from None
    texts = {name: installed.read_text(name) for name in ("METADATA", "entry_points.txt", "licenses/LICENSE")}
    return {"WHEEL": _WHEEL, **{name: text for name, text in texts.items() if text is not None}}


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
