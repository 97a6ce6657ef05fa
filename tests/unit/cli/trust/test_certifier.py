"""``agent-identity certifier``: a real service, real tokens, and enforcers that start with its certificates."""

import http.client
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from workload_issuer import WorkloadIssuer, workload_issuer

from agent_identity import Agent, Enforcer, Human, Scope, Verifier, records
from agent_identity._identity.trust.certificates import unverified_certificate
from agent_identity.cli import main
from agent_identity.errors import ConfigurationError
from agent_identity.identity import SigningKey, SystemClock, TrustStore
from agent_identity.options import Sources, Transparency

Run = Callable[..., tuple[int, str, str]]
PATH = os.pathsep.join(path for path in sys.path if path)
ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")
RULES = """
[[platform]]
spiffe = "example.org"
keys = "{url}/bundle"

[[platform]]
oidc = "{url}"

[[rule]]
platform = "spiffe://example.org"
subject = "spiffe://example.org/agents/"
origin = "fleet.example/agents/{{subject}}/"
issuer = "https://fleet.example/agents"
life = "1h"

[[rule]]
platform = "{url}"
subject = "system:serviceaccount:pay:clerk"
origin = "fleet.example/pay/"
issuer = "https://fleet.example/pay"
principals = ["service", "human"]
"""


class World:
    """A fleet with a root elsewhere, the root of a certifier, and the certifier's files.

    Attributes:
        home: A folder.
        issuer: The platform.
        socket: The path of the socket.
        said: What the certifier said on standard error, after it ended.
    """

    def __init__(self, home: Path, issuer: WorkloadIssuer) -> None:
        self.home, self.issuer = home, issuer
        self.socket = tempfile.mkdtemp(prefix="ai-") + "/c.sock"
        self.said = ""
        for name in ("root", "certifier"):
            SigningKey.generate().save(home / f"{name}.pem")
        words = ["--root", str(home / "root.pem")]
        assert main(["trust", "init", str(home / "fleet.json"), *words, "--origin", "root.example/"]) == 0
        more = ["root", str(home / "certifier.pem"), "--recorders-only", "--origin", "fleet.example/", *words]
        assert main(["trust", "add", str(home / "fleet.json"), *more]) == 0
        (home / "rules.toml").write_text(RULES.format(url=issuer.url))

    @contextmanager
    def serving(self, *words: str) -> Iterator[str]:
        """Run the certifier in a process of its own; return the line that it begins with."""
        command = [sys.executable, "-m", "agent_identity", "certifier", str(self.home / "rules.toml"), "--trust"]
        command += [str(self.home / "fleet.json"), "--key", str(self.home / "certifier.pem")]
        command += ["--log", str(self.home / "issued"), *(words or ("--socket", self.socket))]
        environment = {**os.environ, "PYTHONPATH": PATH, "PYTHONSAFEPATH": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, text=True, env=environment, **pipes) as process:  # type: ignore[call-overload]
            yield process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            _, self.said = process.communicate(timeout=30)
            assert process.returncode == 0

    def host(self, name: str, origin: str = "fleet.example/agents/clerk/") -> Path:
        """Return the directory of a host with a log of the fleet."""
        words = ["--origin", origin, "--issuer", "https://fleet.example/agents"]
        assert main(["init", str(self.home / name), *words]) == 0
        return self.home / name

    def options(self, **more: Any) -> Transparency:
        """Return the options of a host that asks by the socket, as the workload ``agents/clerk``."""
        given: dict[str, Any] = {
            "certifier": f"unix:{self.socket}",
            "workload_token": lambda audience: self.issuer.svid("agents/clerk", audience),
            **more,
        }
        return Transparency(**given)

    def issued(self) -> list[records.Trust]:
        """Return the records of the certifier's log."""
        return [one for one in records.read(self.home / "issued") if isinstance(one, records.Trust)]


@pytest.fixture(scope="module")
def issuer() -> Iterator[WorkloadIssuer]:
    """Serve the platform."""
    with workload_issuer() as served:
        yield served


@pytest.fixture
def world(tmp_path: Path, issuer: WorkloadIssuer) -> World:
    """Return the files of a fleet."""
    return World(tmp_path, issuer)


def work(enforcer: Enforcer) -> None:
    """Make a call."""
    with enforcer.task("read", principal=ALICE, agent=CLERK, scope=Scope("read")), enforcer.action("read"):
        pass


def test_a_host_starts_with_a_certificate_and_verifies_from_the_roots_alone(world: World) -> None:
    """The certificate stands in the first record; the log of the certifier verifies, and holds no token."""
    place = world.host("host")
    with world.serving() as line:
        assert line == f"certifying by 2 rules at unix:{world.socket}\n"
        with Enforcer.open(place, transparency=world.options(uncertified="refuse")) as enforcer:
            work(enforcer)
        with Enforcer.open(place, transparency=world.options()) as enforcer:  # It has one for long.
            work(enforcer)
    root = SigningKey.load(world.home / "root.pem").public_key
    trust = TrustStore.load(world.home / "fleet.json", root=root)
    assert [key.purpose for key in trust.keys] == ["root", "root"]
    report = Verifier(trust).ledger(place)
    assert (report.exit_code, {one.code for one in report.findings}) == (0, {"valid_by_own_clock"})
    (record,) = world.issued()
    assert record.trust.certificate == (place / "keys" / "recorder.certificate").read_text().strip()
    assert Verifier().ledger(world.home / "issued").exit_code == 0
    assert world.said == ""


def test_ac_17_tokens_are_neither_stored_nor_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Not by the host, not by the certifier, whether it certifies or refuses."""
    shown: list[str] = []

    def show(audience: str) -> str:
        shown.append(world.issuer.svid(f"agents/{'clerk' if len(shown) < 1 else 'payer'}", audience))
        return shown[-1]

    with caplog.at_level(logging.DEBUG), world.serving():
        for name in ("a", "b"):
            with Enforcer.open(world.host(name), transparency=world.options(workload_token=show)) as enforcer:
                work(enforcer)
    assert (len(shown), world.said) == (2, "refused: wrong_origin\n")
    assert "the certifier refused with 403 wrong_origin; see its rules" in caplog.text
    secrets = [part for token in shown for part in token.split(".")[1:]]
    texts = [path.read_bytes() for path in world.home.rglob("*") if path.is_file()]
    texts += [caplog.text.encode(), world.said.encode()]
    assert not any(secret.encode() in text for secret in secrets for text in texts)


def test_ac_17_a_certifier_refuses_the_log_of_another_workload(world: World) -> None:
    """The host of another workload starts self-asserted, or not at all, as its options say."""
    place = world.host("host", "fleet.example/agents/payer/")
    with world.serving():
        with pytest.raises(ConfigurationError, match="refused with 403 wrong_origin") as caught:
            Enforcer.open(place, transparency=world.options(uncertified="refuse"))
        assert caught.value.code == "not_certified"
        with Enforcer.open(place, transparency=world.options()) as enforcer:
            work(enforcer)
    assert Verifier(TrustStore.load(world.home / "fleet.json")).ledger(place).exit_code == 2
    assert not (world.home / "issued" / "ledger").exists() or world.issued() == []


@pytest.mark.parametrize(
    ("show", "told"),
    [
        (lambda _: "no token", "401 malformed_token"),
        (lambda _: "", "workload_token returned no token"),
        (lambda _: "a\nb", "workload_token returned no token"),
        (lambda _: 1 / 0, "workload_token raised ZeroDivisionError"),
    ],
)
def test_a_token_that_is_none_certifies_nothing(world: World, show: Any, told: str) -> None:
    """The start says why."""
    with world.serving(), pytest.raises(ConfigurationError, match=told):
        Enforcer.open(world.host("host"), transparency=world.options(uncertified="refuse", workload_token=show))


def test_a_start_waits_for_the_certifier_no_longer_than_stated(world: World) -> None:
    """A certifier that is not there, and one that never answers."""
    import socket

    place = world.host("host")
    with pytest.raises(ConfigurationError, match="the certifier gives no answer; see whether it runs"):
        Enforcer.open(place, transparency=world.options(uncertified="refuse"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(world.socket)
        silent.listen()
        begun = time.monotonic()
        with Enforcer.open(place, transparency=world.options(certifier_seconds=0.3)) as enforcer:
            assert time.monotonic() - begun < 5
            work(enforcer)
            told = enforcer.degraded["certificate"]
    assert told == "the certifier gives no answer within 0.3 s; see whether it runs"


class Later:
    """A clock that is ahead of that of the system."""

    def __init__(self) -> None:
        self.ahead = 0

    def wall_ns(self) -> int:
        """Return nanoseconds since the Unix epoch."""
        return time.time_ns() + self.ahead * 10**9

    def monotonic_ns(self) -> int:
        """Return nanoseconds of the monotonic clock."""
        return SystemClock().monotonic_ns()


def test_a_certificate_is_renewed_before_it_ends(world: World) -> None:
    """A task that opens when a third is left has the next one fetched, and a later task records it."""
    place, clock = world.host("host"), Later()
    file = place / "keys" / "recorder.certificate"
    with (
        world.serving(),
        Enforcer.open(place, transparency=world.options(), sources=Sources(clock=clock)) as enforcer,
    ):
        work(enforcer)
        first, second = file.read_text(), int(time.time())
        while int(time.time()) == second:  # Certificates of one second are the same.
            time.sleep(0.01)
        clock.ahead = 2_500  # Of 3,600 seconds.
        work(enforcer)
        deadline = time.monotonic() + 20
        while file.read_text() == first and time.monotonic() < deadline:
            time.sleep(0.01)
        renewed = file.read_text()
        work(enforcer)
    assert renewed != first
    (told,) = [one.trust for one in records.read(place) if isinstance(one, records.Trust)]
    assert (told.status, told.certificate) == ("renewed", renewed.strip())
    assert [one.trust.status for one in world.issued()] == ["trusted", "renewed"]


def test_a_certificate_of_another_host_is_not_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers in place of the certifier cannot make a host state something else."""
    from agent_identity._directory import _certification

    other = world.host("other")
    with world.serving():
        Enforcer.open(other, transparency=world.options()).close()
        token = (other / "keys" / "recorder.certificate").read_text().strip()
        monkeypatch.setattr(_certification.Certification, "_answer", lambda _: token)
        with pytest.raises(ConfigurationError, match="the certificate of another host"):
            Enforcer.open(world.host("host"), transparency=world.options(uncertified="refuse"))
        monkeypatch.setattr(_certification.Certification, "_answer", lambda _: "x")
        with pytest.raises(ConfigurationError, match="no certificate of the recorder key"):
            Enforcer.open(world.host("host"), transparency=world.options(uncertified="refuse"))


def tls(home: Path) -> Path:
    """Write a certificate and its key for this machine."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (home / "tls.pem").write_bytes(pem + built.public_bytes(Encoding.PEM))
    return home / "tls.pem"


def test_a_certifier_serves_hosts_over_https(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With TLS only, and hosts verify it; a service account of a cluster is certified like a SPIFFE workload."""
    pem = str(tls(world.home))
    words = ("--listen", "127.0.0.1:0", "--tls-certificate", pem, "--tls-key", pem)
    assert (
        main(
            ["init", str(world.home / "pay"), "--origin", "fleet.example/pay/", "--issuer", "https://fleet.example/pay"]
        )
        == 0
    )

    def account(audience: str) -> str:
        return world.issuer.account("pay:clerk", audience)

    with world.serving(*words) as line:
        port = int(line.rpartition(":")[2])
        options = world.options(
            certifier=f"https://localhost:{port}", workload_token=account, uncertified="refuse", certifier_seconds=9
        )
        with pytest.raises(ConfigurationError, match="the certifier gives a failure of TLS"):
            Enforcer.open(world.home / "pay", transparency=options)
        monkeypatch.setenv("SSL_CERT_FILE", pem)
        with Enforcer.open(world.home / "pay", transparency=options) as enforcer:
            work(enforcer)
    assert Verifier(TrustStore.load(world.home / "fleet.json")).ledger(world.home / "pay").exit_code == 0


def test_requests_are_bounded(world: World) -> None:
    """Other paths, no token, a long body and none are refused, each by a status of its own."""

    class Local(http.client.HTTPConnection):
        def connect(self) -> None:
            import socket

            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.connect(world.socket)

    def status(path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, Any]:
        connection = Local("certifier")
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        read = answer.status, json.loads(answer.read())["error"]
        connection.close()
        return read

    bearer = {"Authorization": "Bearer x"}
    with world.serving():
        assert status("/certificate", b"{}", {}) == (401, "no_token")
        assert status("/certificate", b"{}", {"Authorization": "Basic x"}) == (401, "no_token")
        assert status("/certificate", b"{}", {"Authorization": "Bearer " + "x" * 40_000}) == (401, "no_token")
        assert status("/certificate", b"{}", bearer) == (400, "bad_recorder_certificate")
        assert status("/other", b"{}", bearer) == (404, "not_found")
        assert status("/certificate", b" " * 5_000, bearer) == (413, "too_large")
        assert status("/certificate", b"", {**bearer, "Content-Length": "x"}) == (411, "too_large")
    assert world.said.count("refused: ") == 7


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("oidc = ", "odic = "), "platform 2: unknown member 'odic'; use ca, keys, oidc, spiffe"),
        (('spiffe = "example.org"\n', 'spiffe = "example.org"\noidc = "x"\n'), "platform 1: give spiffe"),
        (('spiffe = "example.org"', "spiffe = 1"), "platform 1: spiffe is not a text"),
        (('spiffe = "example.org"', 'spiffe = "Example"'), "platform 1: trust_domain is malformed"),
        (('keys = "URL', 'ca = "none.pem"\nkeys = "URL'), "the certificates of 'none.pem' cannot be read"),
        (('subject = "spiffe://example.org/agents/"', ""), "rule 1: subject is missing"),
        (("agents/{subject}/", "agents/"), "rule 1: a subject that ends in / or : needs {subject}"),
        (('life = "1h"', 'life = "1y"'), "'1y' is not a duration"),
        (('["service", "human"]', '["robot"]'), "rule 2: principals is not a list"),
        (('["service", "human"]', '"human"'), "rule 2: principals is not a list"),
        (("[[rule]]", "[[rules]]"), "give [[platform]] and [[rule]]"),
        (("[[rule]]", "["), "no TOML"),
        (("/pay/", "/agents/"), "reach the same logs"),
    ],
    ids=lambda change: str(change[1])[:20] if isinstance(change, tuple) else "",
)
def test_rules_that_are_none_are_told(
    run: Run, world: World, change: tuple[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With their place; the certifier does not begin."""
    old, new = (text.replace("URL", world.issuer.url) for text in change)
    text = (world.home / "rules.toml").read_text()
    assert old in text
    (world.home / "rules.toml").write_text(text.replace(old, new))
    capsys.readouterr()
    words = [
        "--trust",
        world.home / "fleet.json",
        "--key",
        world.home / "certifier.pem",
        "--log",
        world.home / "issued",
    ]
    code, out, err = run("certifier", world.home / "rules.toml", *words, "--socket", world.socket)
    assert (code, out, told in err) == (2, "", True), err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "give --socket PATH, --listen HOST:PORT, or both"),
        (("--listen", "127.0.0.1:0"), "tokens never travel in the clear"),
        (("--listen", "127.0.0.1:0", "--tls-certificate", "x", "--tls-key", "x"), "of TLS cannot be used"),
        (("--socket", "/no/folder/c.sock"), "cannot create a socket"),
        (("--socket", "S", "--root", "x" * 43), "does not list the pinned root"),
        (("--socket", "S", "--key", "root.pem"), "not that of a root for recorders only"),
    ],
)
def test_a_certifier_that_cannot_serve_says_so(run: Run, world: World, words: tuple[str, ...], told: str) -> None:
    """With the cure."""
    given = [world.socket if word == "S" else world.home / word if word.endswith(".pem") else word for word in words]
    key = [] if "--key" in words else ["--key", world.home / "certifier.pem"]
    common = ["--trust", world.home / "fleet.json", *key, "--log", world.home / "issued"]
    code, _, err = run("certifier", world.home / "rules.toml", *common, *given)
    assert (code, told in err) == (2, True), err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"certifier": "unix:/x"}, "certifier and workload_token go together"),
        ({"workload_token": str}, "certifier and workload_token go together"),
        ({"certifier": "http://x", "workload_token": str}, "neither unix:PATH nor an https address"),
        ({"certifier": "unix:", "workload_token": str}, "neither unix:PATH nor an https address"),
        ({"certifier_seconds": 0}, "certifier_seconds is not from 0 to 300"),
        ({"uncertified": "never"}, "unknown uncertified"),
    ],
)
def test_options_of_certification_are_checked(given: dict[str, Any], told: str) -> None:
    """At their making."""
    with pytest.raises(ConfigurationError, match=told):
        Transparency(**given)


def test_a_certificate_may_be_required_without_a_certifier(tmp_path: Path) -> None:
    """What a root put there counts, and nothing is asked."""
    SigningKey.generate().save(tmp_path / "root.pem")
    words = ["--root", str(tmp_path / "root.pem")]
    assert main(["trust", "init", str(tmp_path / "fleet.json"), *words, "--origin", "agent-identity/"]) == 0
    assert main(["init", str(tmp_path / "host")]) == 0
    options = Transparency(uncertified="refuse")
    with pytest.raises(ConfigurationError, match="no certificate of the recorder key is valid now; have a root"):
        Enforcer.open(tmp_path / "host", transparency=options)
    assert main(["trust", "certify", str(tmp_path / "fleet.json"), str(tmp_path / "host"), *words]) == 0
    with Enforcer.open(tmp_path / "host", transparency=options) as enforcer:
        work(enforcer)
    token = (tmp_path / "host" / "keys" / "recorder.certificate").read_text().strip()
    assert unverified_certificate(token).origin == TrustStore.load(tmp_path / "host" / "trust.json").origin
