"""``agent-identity witness``, and what other commands say about witnesses."""

import argparse
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_identity import Enforcer
from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._ledger.transparency.checkpoint import vkey
from agent_identity._ledger.transparency.witness_client import cosigned_file
from agent_identity._storage.layout import Layout
from agent_identity.cli.trust import witness as command
from agent_identity.errors import ConfigurationError
from agent_identity.identity import SigningKey, TrustedKey, TrustStore, Witnesses
from agent_identity.options import Transparency

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Return the key file of a witness."""
    SigningKey.from_seed(bytes([3]) * 32).save(tmp_path / "witness.pem")
    return tmp_path / "witness.pem"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give --trust or --log"),
        (("--log", "x"), "bad --log"),
        (("--log", "{log}", "--listen", "8765"), "is not an address"),
        (("--log", "{log}", "--listen", "127.0.0.1:99999"), "is not an address"),
        (("--log", "{log}", "--name", "a b", "--new"), "bad name"),
        (("--log", "{log}"), "No such file"),
        (("--trust", "{bare}"), "has no origin"),
        (("--log", "{log}", "--key", "{bare}"), "has mode 0644"),
    ],
)
def test_a_witness_that_cannot_work_does_not_start(
    run: Run, key: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    """What is missing or malformed is said in one line, before anything is served."""
    bare = tmp_path / "bare.json"
    TrustStore(()).save(bare)
    known = {"log": vkey("x.example", SigningKey.generate().public_key), "bare": str(bare)}
    given = [word.format(**known) for word in words]
    if "--name" not in given:
        given += ["--name", "w.example"]
    if "--key" not in given:
        given += ["--key", str(key)]
    code, out, err = run("witness", "--state", tmp_path / "state", *given)
    assert (code, out) == (2, "")
    assert message in err


def test_a_witness_cosigns_each_log_under_its_own_keys(tmp_path: Path) -> None:
    """One trust file may name several logs: none of them is known with the key of another, or with a revoked one."""
    a, b, c, gone = (SigningKey.from_seed(bytes([number]) * 32).public_key for number in range(4))
    keys = (
        TrustedKey(a, "recorder"),
        TrustedKey(b, "recorder", origin="b.example"),
        TrustedKey(c, "recorder", origin="b.example"),
        TrustedKey(gone, "recorder", origin="b.example", revoked_since=1),
        TrustedKey(gone, "issuer"),
    )
    path = tmp_path / "fleet.json"
    TrustStore(keys, origin="a.example").save(path)
    chosen = argparse.Namespace(trust=[str(path)], log=[])
    assert command._logs(chosen) == {"a.example": (a,), "b.example": (b, c)}
    TrustStore(keys).save(path)
    with pytest.raises(ConfigurationError, match="has no origin"):
        command._logs(chosen)


def test_a_witness_serves_until_it_is_told_to_stop(
    key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints its verifier key and address, serves, and ends on SIGTERM with its state free again."""
    handlers: dict[int, Callable[[int, object], None]] = {}
    monkeypatch.setattr(signal, "signal", lambda number, act: handlers.update({number: act}))
    log = vkey("x.example", SigningKey.generate().public_key)
    given = {"name": "w.example", "key": str(key), "trust": [], "log": [log, log], "new": True, "listen": "127.0.0.1:0"}
    chosen = argparse.Namespace(state=str(tmp_path / "state"), **given)
    ended = threading.Event()
    monkeypatch.setattr(command.WitnessServer, "service_actions", lambda _: handlers[signal.SIGTERM](15, None))
    assert command.run(chosen) == 0
    ended.set()
    out = capsys.readouterr().out.splitlines()
    assert out[0] == Cosigner("w.example", SigningKey.load(key).public_key).vkey
    assert out[1].startswith("cosigning 1 log at http://127.0.0.1:")
    chosen.new = False
    assert command.run(chosen) == 0


def test_doctor_says_how_far_witnesses_are(run: Run, evidence: Path) -> None:
    """A witness that the trust file names and that lags, is missing or is up to date is shown as such."""
    trust = TrustStore.load(evidence / "trust.json")
    ours = Cosigner("w.example/1", SigningKey.from_seed(bytes([3]) * 32).public_key)
    TrustStore(trust.keys, issuer=trust.issuer, origin=trust.origin, witnesses=Witnesses((ours,))).save(
        evidence / "trust.json"
    )
    assert "cosigned nothing" in run("doctor", evidence)[1]
    assert "w.example/1+" in run("trust", "list", evidence)[1]
    path = Path(cosigned_file(Layout.of(evidence), ours))
    path.parent.mkdir()
    note = (evidence / "log" / "checkpoint").read_bytes()
    path.write_bytes(b"junk")
    assert "cosigned nothing" in run("doctor", evidence)[1]
    lines = note.split(b"\n")
    path.write_bytes(b"\n".join([lines[0], b"1", *lines[2:]]))
    assert "it has cosigned 1 of" in run("doctor", evidence)[1]
    path.write_bytes(note)
    assert "it has cosigned all" in run("doctor", evidence)[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"witnesses": {"http://witness.example": "{good}"}}, "bad witness"),
        ({"witnesses": {"https://witness.example": "w"}}, "bad witness"),
        ({"checkpoints": [1]}, "give a function"),
    ],
)
def test_places_for_checkpoints_are_checked_first(tmp_path: Path, options: dict[str, object], message: str) -> None:
    """A slip in what takes checkpoints elsewhere is an error before the directory is touched."""
    good = Cosigner("w.example/1", SigningKey.from_seed(bytes([3]) * 32).public_key).vkey
    given = {
        name: {url: text.format(good=good) for url, text in value.items()} if isinstance(value, dict) else value
        for name, value in options.items()
    }
    with pytest.raises((ConfigurationError, TypeError), match=message):
        Enforcer.open(tmp_path / "evidence", transparency=Transparency(**given))
    assert not (tmp_path / "evidence").exists()
