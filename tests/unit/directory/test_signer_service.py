"""The signer: it signs what it recognises for whom it may, and whoever asks for more gets a reason."""

import json
import os
import socket
import stat
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity._authority.grants.grants import GRANT_TYPE, Chain, derive, issue
from agent_identity._authority.grants.proof_of_possession import prove
from agent_identity._directory import signer_service
from agent_identity._directory import signer_service as recognition
from agent_identity._directory.open import connect, prepare
from agent_identity._directory.rotation import revoke, rotate
from agent_identity._directory.signer_service import SignerKeys, SignerService
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.ids import uuid_of
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._ledger.transparency.checkpoint import Checkpoint
from agent_identity._spans.envelope import PAYLOAD_TYPE, pae
from agent_identity.canonical import encode
from agent_identity.errors import ConfigurationError, EvidenceError
from agent_identity.identity import PublicKey, SigningKey, SocketSigner, TrustStore
from agent_identity.options import Sources
from agent_identity.testing import FixedClock, SequentialIds

NOW = FixedClock().wall_ns() // 10**9
RECORD = {
    "v": "1",
    "kind": "stream_start",
    "id": SequentialIds().new(NOW * 10**9),
    "time": {"start": str(NOW * 10**9)},
    "stream": {"id": SequentialIds().new(NOW * 10**9), "seq": "1"},
    "sdk": {"name": "agent-identity-otel", "version": "1"},
}


class Recording:
    """A signer that keeps what it signs."""

    def __init__(self, key: PublicKey) -> None:
        self.public_key = key
        self.message = b""

    def sign(self, message: bytes) -> bytes:
        """Keep the message."""
        self.message = message
        return bytes(64)


class Place:
    """A signer that serves in a thread, and its directory."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.path = root, str(folder / "s")
        self.clock, self.said = FixedClock(), list[str]()
        self.keys = SignerKeys(root, clock=self.clock, ids=SequentialIds())
        self.service = SignerService(self.keys, self.path, {os.geteuid()}, (), self.said.append)

    def start(self) -> "Place":
        """Serve."""
        self.service.listen()
        self.thread = threading.Thread(target=self.service.serve)
        self.thread.start()
        return self

    def stop(self) -> None:
        """Stop to serve."""
        self.service.close()
        self.thread.join(20)

    @property
    def trust(self) -> TrustStore:
        """What the signer's directory trusts."""
        return TrustStore.load(self.root / "trust.json")

    def key(self, purpose: str) -> SigningKey:
        """Return one of the keys of the directory."""
        return SigningKey.load(self.root / "keys" / f"{purpose}.pem")

    def ask(self, key: PublicKey, message: bytes) -> bytes:
        """Ask for a signature as the protocol has it, without a socket."""
        return self.keys.answer(b"S" + key.raw + message)

    def grant(self, **changes: object) -> bytes:
        """Return the signing input of a root grant."""
        signer = Recording(self.key("issuer").public_key)
        given = {
            "issuer": self.trust.issuer,
            "task_id": "t",
            "principal": Human("alice"),
            "agent": Agent("clerk", owner="ops"),
            "holder": SigningKey.from_seed(b"h" * 32).public_key,
            "scope": Scope("read"),
            "now": NOW,
            "ttl": 300,
            "id": uuid_of(SequentialIds().new(0)),
        }
        issue(signer, **{**given, **changes})
        return signer.message


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a short path, since that of a socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ai-") as name:
        yield Path(name)


@pytest.fixture
def place(tmp_path: Path, folder: Path) -> Iterator[Place]:
    one = Place(tmp_path / "signer", folder)
    yield one
    one.service.close()


# What is signed


def test_what_a_recorder_signs_is_signed(place: Place) -> None:
    """Records in their envelope, and checkpoints of the log, verify under the recorder key."""
    key = place.key("recorder").public_key
    for message in (
        pae(PAYLOAD_TYPE, encode_record(RECORD)),
        Checkpoint(place.trust.origin or "", 7, b"r" * 32).to_text().encode(),
    ):
        key.verify(place.ask(key, message), message)


def test_what_an_issuer_signs_is_signed(place: Place) -> None:
    """Root grants of its own verify under the issuer key, at the limits of their times as well."""
    key = place.key("issuer").public_key
    for message in (place.grant(), place.grant(now=NOW - 30, ttl=24 * 3600), place.grant(now=NOW + 30)):
        key.verify(place.ask(key, message), message)


def foreign(place: Place) -> dict[str, bytes]:
    """Return what the recorder key must not sign."""
    record = encode_record(RECORD)
    envelope = pae(PAYLOAD_TYPE, record)
    origin = place.trust.origin or ""
    checkpoint = Checkpoint(origin, 7, b"r" * 32)
    return {
        "nothing": b"",
        "text": b"I owe you",
        "bytes": bytes(range(256)),
        "a record alone": record,
        "another type": pae("application/json", record),
        "another length": envelope.replace(f" {len(record)} ".encode(), f" 0{len(record)} ".encode()),
        "no record": pae(PAYLOAD_TYPE, b"{}"),
        "an unknown kind": pae(PAYLOAD_TYPE, encode_record({**RECORD, "kind": "payment"})),
        "no canonical record": pae(PAYLOAD_TYPE, record.replace(b'"id"', b' "id"', 1)),
        "a nest": pae(PAYLOAD_TYPE, b"[" * 100_000),
        "another log": replace(checkpoint, origin="other").to_text().encode(),
        "an extension": replace(checkpoint, extensions=("x",)).to_text().encode(),
        "another spelling": checkpoint.to_text().replace("\n7\n", "\n07\n").encode(),
        "a longer text": checkpoint.to_text().encode() + b"x\n",
        "a cosignature": b"cosignature/v1\ntime 1\n" + checkpoint.to_text().encode(),
        "a grant": place.grant(),
    }


def test_ac_22_a_recorder_key_signs_nothing_else(place: Place) -> None:
    """Whatever is no record and no checkpoint of this log is refused, grants above all."""
    key = place.key("recorder").public_key
    for name, message in foreign(place).items():
        with pytest.raises(ValueError, match=r"^not_recognised$"):
            pytest.fail(f"{name} was signed: {place.ask(key, message)!r}")


def token(header: object, claims: object) -> bytes:
    """Return the signing input of any token."""
    return ".".join(b64url_encode(encode(part)) for part in (header, claims)).encode()


def test_ac_22_an_issuer_key_signs_nothing_else(place: Place) -> None:
    """Records, checkpoints, children, proofs, grants of others, and grants in stock or for long are refused."""
    issuer = place.key("issuer")
    holder = SigningKey.from_seed(b"h" * 32)
    root = issue(
        issuer,
        issuer=place.trust.issuer or "",
        task_id="t",
        principal=Human("alice"),
        agent=Agent("clerk", owner="ops"),
        holder=issuer.public_key,
        scope=Scope("read"),
        now=NOW,
        ttl=300,
        id=uuid_of(SequentialIds().new(5 * 10**6)),
    )
    listening = Recording(issuer.public_key)
    agent, scope = Agent("helper", owner="ops"), Scope("read")
    terms = {"agent": agent, "holder": holder.public_key, "scope": scope, "now": NOW, "ttl": 300}
    derive(Chain((root,)), listening, **terms, id=uuid_of(SequentialIds().new(10**6)))
    child = listening.message
    prove(
        Chain((root,)),
        listening,
        tool="read",
        arguments={},
        audience="a",
        now=NOW,
        id=uuid_of(SequentialIds().new(2 * 10**6)),
    )
    proof = listening.message
    claims = json.loads(_decoded(place.grant().split(b".")[1]))
    header = {"alg": "Ed25519", "kid": issuer.public_key.thumbprint, "typ": GRANT_TYPE}
    assert place.ask(issuer.public_key, token(header, claims))
    bad = {
        "a record": pae(PAYLOAD_TYPE, encode_record(RECORD)),
        "a checkpoint": Checkpoint(place.trust.origin or "", 7, b"r" * 32).to_text().encode(),
        "a child": child,
        "a proof": proof,
        "a grant of another issuer": place.grant(issuer="urn:other"),
        "a grant for tomorrow": place.grant(now=NOW + 31),
        "a grant of yesterday": place.grant(now=NOW - 31),
        "a grant for long": place.grant(ttl=24 * 3600 + 1),
        "one part": place.grant().split(b".")[0],
        "three parts": place.grant() + b".x",
        "another type": token({**header, "typ": "JWT"}, claims),
        "another key": token({**header, "kid": "other"}, claims),
        "no kid": token({"alg": "Ed25519", "typ": GRANT_TYPE}, claims),
        "a further header": token({**header, "crit": []}, claims),
        "an array": token(header, [claims]),
        "no header": token([], claims),
        "a child by its depth": token(header, {**claims, "del_depth": 1}),
        "a child by its parent": token(header, {**claims, "par_hash": "x"}),
        "an unknown claim": token(header, {**claims, "admin": True}),
        "spaces": b64url_encode(json.dumps(header).encode()).encode() + b"." + place.grant().split(b".")[1],
        "no text": "ü.ü".encode(),
        "nothing": b"",
    }
    for name, message in bad.items():
        with pytest.raises(ValueError, match=r"^not_recognised$"):
            pytest.fail(f"{name} was signed: {place.ask(issuer.public_key, message)!r}")


def _decoded(part: bytes) -> bytes:
    from agent_identity._identity.common.encoding import b64url_decode

    return b64url_decode(part.decode())


def test_times_have_constants() -> None:
    """The limits are what the page on the signer says."""
    assert (recognition.SKEW, recognition.MAX_LIFE) == (30, 86_400)


@pytest.mark.parametrize("request_", [b"", b"X", b"K", b"Kx", b"Kir", b"Tx", b"Kissuer"])
def test_unknown_requests_are_refused(place: Place, request_: bytes) -> None:
    """Only three things can be asked for."""
    with pytest.raises(ValueError, match="unknown_request"):
        place.keys.answer(request_)


def test_keys_and_trust_are_told(place: Place) -> None:
    """Whoever may connect learns the public keys."""
    assert place.keys.answer(b"Ki") == place.key("issuer").public_key.raw
    assert place.keys.answer(b"Kr") == place.key("recorder").public_key.raw
    assert place.keys.answer(b"T") == (place.root / "trust.json").read_bytes()


def test_other_keys_sign_nothing(place: Place) -> None:
    """A key that the signer does not hold, or a part of one, is refused."""
    for request in (b"S", b"S" + b"x" * 31, b"S" + SigningKey.generate().public_key.raw + place.grant()):
        with pytest.raises(ValueError, match="unknown_key"):
            place.keys.answer(request)


def test_rotated_keys_sign_until_their_end(place: Place) -> None:
    """After it has read the directory again, the signer has the new keys, and the old ones as long as they count."""
    old = place.key("issuer").public_key
    rotate(place.root, ("issuer",), now=NOW, overlap=60)
    place.keys.load()
    new = place.key("issuer").public_key
    assert place.keys.answer(b"Ki") == new.raw != old.raw
    message = place.grant()
    new.verify(place.ask(new, message), message)
    place.clock.advance(61)
    with pytest.raises(ValueError, match="key_not_valid_then"):
        place.ask(old, place.grant(now=NOW + 61))


def test_a_directory_that_became_another_is_not_read(place: Place) -> None:
    """Without its trust file, or with other names in it, the signer goes on as it was."""
    other = replace(place.trust, issuer="urn:other")
    file = place.root / "trust.json"
    before = file.read_bytes()
    file.unlink()
    with pytest.raises(ConfigurationError, match="is missing"):
        place.keys.load()
    assert not file.exists()
    other.save(file)
    with pytest.raises(ConfigurationError, match="other names than before"):
        place.keys.load()
    assert place.keys.answer(b"T") == before


def test_a_revoked_key_signs_nothing(place: Place) -> None:
    """Once the signer has read of it."""
    key = place.key("recorder").public_key
    revoke(place.root, key.thumbprint, since=NOW)
    place.keys.load()
    with pytest.raises(ValueError, match="key_revoked"):
        place.ask(key, pae(PAYLOAD_TYPE, encode_record(RECORD)))


# The socket


def test_an_enforcer_works_without_any_key_of_its_own(place: Place, tmp_path: Path) -> None:
    """Grants and records verify, and no private key is in the directory; its trust file is the signer's."""
    place.start()
    evidence = tmp_path / "evidence"
    for _ in range(2):
        with Enforcer.open(evidence, keys=f"unix:{place.path}", sources=Sources(clock=place.clock)) as enforcer:
            given = {"principal": Human("alice"), "agent": Agent("clerk", owner="ops"), "scope": Scope("read")}
            with enforcer.task("t", **given), enforcer.action("read"):
                pass
    place.stop()
    assert Verifier(place.trust).ledger(evidence).verdict == "verified"
    assert sorted(path.name for path in (evidence / "keys").iterdir()) == [".gitignore", "digests.jsonl", "ledger.key"]
    assert (evidence / "trust.json").read_bytes() == (place.root / "trust.json").read_bytes()
    assert place.said == []


def test_the_socket_is_the_owners(place: Place) -> None:
    """Mode 0600 by default; for others 0666, since then the kernel's word decides. It is gone at the end."""
    place.service.listen()
    assert stat.S_IMODE(Path(place.path).stat().st_mode) == 0o600
    place.service.close()
    assert not Path(place.path).exists()
    place.service.close()
    for others in ({"users": {os.geteuid(), 12345}}, {"groups": {12345}}):
        service = SignerService(place.keys, place.path, **{"users": {os.geteuid()}, **others})
        service.listen()
        assert stat.S_IMODE(Path(place.path).stat().st_mode) == 0o666
        service.close()


def test_who_is_not_on_the_list_is_refused(place: Place) -> None:
    """Not even the public key is told, and the refusal names the process."""
    place.service.users = {os.geteuid() + 1}
    place.start()
    with pytest.raises(ConfigurationError, match="not_allowed") as refused:
        SocketSigner(place.path, "issuer")
    assert refused.value.code == "signer_refused"
    place.service.groups = {os.getegid()}
    assert SocketSigner(place.path, "issuer").public_key == place.key("issuer").public_key
    place.stop()
    assert place.said == [f"refused process {os.getpid()} of user {os.geteuid()} and group {os.getegid()}: not_allowed"]


def test_a_refusal_is_an_error_with_its_code(place: Place) -> None:
    """The caller learns what the signer says, and the connection goes on."""
    place.start()
    signer = SocketSigner(place.path, "recorder")
    with pytest.raises(EvidenceError, match="not_recognised") as refused:
        signer.sign(b"I owe you")
    assert refused.value.code == "signer_refused"
    message = pae(PAYLOAD_TYPE, encode_record(RECORD))
    signer.public_key.verify(signer.sign(message), message)
    signer.close()
    place.stop()
    assert place.said[0].endswith("not_recognised")


def test_a_key_that_fails_is_told(place: Place) -> None:
    """A token that was pulled out, for one, is no end of the service."""

    class Pulled:
        public_key = place.key("recorder").public_key

        def sign(self, message: bytes) -> bytes:
            raise OSError("gone")

    place.keys._signers[Pulled.public_key.raw] = (Pulled(), "recorder")
    place.start()
    signer = SocketSigner(place.path, "recorder")
    with pytest.raises(EvidenceError, match="key_failed"):
        signer.sign(pae(PAYLOAD_TYPE, encode_record(RECORD)))
    signer.close()
    place.stop()
    assert place.said == ["the key failed with OSError"]


@pytest.mark.parametrize("start", [b"", b"\xff\xff\xff\xff", b"\x00\x00", b"\x00\x00\x00\x05ab"])
def test_a_peer_that_breaks_off_or_says_too_much_is_left(place: Place, start: bytes) -> None:
    """Others are served all the same."""
    place.start()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(place.path)
        peer.sendall(start)
        if len(start) == 4:
            assert peer.recv(1) == b""
    assert SocketSigner(place.path, "issuer").public_key == place.key("issuer").public_key
    place.stop()


def test_a_peer_that_stops_in_the_middle_is_dropped(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that does not end in time costs its connection."""
    monkeypatch.setattr(signer_service, "_SECONDS", 0.05)
    place.start()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(place.path)
        peer.sendall(b"\x00\x00\x00\x09ab")
        assert peer.recv(1) == b""
    place.stop()


def test_connections_are_bounded(place: Place) -> None:
    """One more than there is room for is closed at once."""
    place.service._room = threading.Semaphore(1)
    place.start()
    first = SocketSigner(place.path, "issuer")
    with pytest.raises(ConfigurationError, match="signer at"):
        SocketSigner(place.path, "issuer")
    first.close()
    place.stop()


def test_a_relic_is_replaced_and_a_living_signer_is_not(place: Place, tmp_path: Path) -> None:
    """A socket that nobody serves is one of a signer that died; other files stay."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(place.path)
    place.start()
    with pytest.raises(ConfigurationError, match="another signer serves"):
        SignerService(place.keys, place.path, {0}).listen()
    place.stop()
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigurationError, match="is no socket"):
        SignerService(place.keys, str(file), {0}).listen()
    assert file.exists()


@pytest.mark.parametrize("path", ["none/s", "x" * 200])
def test_a_path_that_cannot_be_a_socket_is_told(place: Place, folder: Path, path: str) -> None:
    """Missing folders, and names that are too long."""
    with pytest.raises(ConfigurationError, match="cannot create a socket at"):
        SignerService(place.keys, str(folder / path), {0}).listen()


def test_a_platform_that_does_not_tell_who_connects_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that word the list of users would be for nothing."""
    monkeypatch.delattr(socket, "SO_PEERCRED")
    with pytest.raises(ConfigurationError, match="SO_PEERCRED"):
        place.service.listen()


def test_a_socket_that_fails_is_not_served(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while the service is open is its end, with the error."""
    place.service.serve()  # Not listening: nothing to serve.

    class Failing:
        def accept(self) -> None:
            raise OSError("too many files")

    place.service._socket = Failing()
    with pytest.raises(OSError, match="too many files"):
        place.service.serve()
    place.service._socket = None


# Connecting an enforcer


@pytest.mark.parametrize("signer", ["", "unix:", "/run/s", "tcp:localhost:1", "unix"])
def test_a_signer_is_named_by_its_socket(tmp_path: Path, signer: str) -> None:
    """There is one form."""
    with pytest.raises(ConfigurationError, match="write unix:PATH"):
        connect(tmp_path / "evidence", signer)


@pytest.mark.parametrize("name", ["issuer.pem", "recorder.pem"])
def test_private_keys_beside_a_signer_are_refused(place: Place, tmp_path: Path, name: str) -> None:
    """What the signer is to keep from the agent must not lie beside it."""
    place.start()
    (tmp_path / "evidence" / "keys").mkdir(parents=True)
    SigningKey.generate().save(tmp_path / "evidence" / "keys" / name)
    with pytest.raises(ConfigurationError, match=f"keys/{name} is beside a signer"):
        connect(tmp_path / "evidence", f"unix:{place.path}")
    place.stop()


def test_the_signer_of_another_directory_is_refused(place: Place, tmp_path: Path) -> None:
    """A directory keeps its issuer and its log."""
    prepare(tmp_path / "evidence", FixedClock(), SequentialIds())
    other = TrustStore.load(tmp_path / "evidence" / "trust.json")
    replace(other, origin="agent-identity/other").save(tmp_path / "evidence" / "trust.json")
    for file in (tmp_path / "evidence" / "keys").glob("*.pem"):
        file.unlink()
    place.start()
    with pytest.raises(ConfigurationError, match="the signer has other names"):
        connect(tmp_path / "evidence", f"unix:{place.path}")
    place.stop()


def _revoked(trust: TrustStore) -> TrustStore:
    return trust.with_keys((replace(trust.keys[0], revoked_since=NOW), trust.keys[1]))


def _more(trust: TrustStore) -> TrustStore:
    return trust.with_key(SigningKey.generate().public_key, "issuer")


@pytest.mark.parametrize("change", [_revoked, _more])
def test_what_is_known_here_is_not_forgotten(
    place: Place, tmp_path: Path, change: Callable[[TrustStore], TrustStore]
) -> None:
    """A revocation or a key that only this directory has is not overwritten by the signer's trust file."""
    (tmp_path / "evidence").mkdir()
    change(place.trust).save(tmp_path / "evidence" / "trust.json")
    before = (tmp_path / "evidence" / "trust.json").read_bytes()
    place.start()
    with pytest.raises(ConfigurationError, match="lacks a key or revocation"):
        connect(tmp_path / "evidence", f"unix:{place.path}")
    place.stop()
    assert (tmp_path / "evidence" / "trust.json").read_bytes() == before


def test_news_of_the_signer_are_taken_over(place: Place, tmp_path: Path) -> None:
    """After a rotation at the signer, the next start has its keys; what did not change is not written again."""
    place.start()
    connect(tmp_path / "evidence", f"unix:{place.path}")
    first = (tmp_path / "evidence" / "trust.json").stat().st_ino
    connect(tmp_path / "evidence", f"unix:{place.path}")
    assert (tmp_path / "evidence" / "trust.json").stat().st_ino == first
    rotate(place.root, ("issuer", "recorder"), now=NOW, overlap=60)
    place.keys.load()
    issuer, _, trust = connect(tmp_path / "evidence", f"unix:{place.path}")
    assert issuer.public_key == place.key("issuer").public_key
    assert trust == TrustStore.load(tmp_path / "evidence" / "trust.json") == place.trust
    place.stop()


def test_without_its_signer_a_directory_does_not_open(place: Place, tmp_path: Path) -> None:
    """Neither with the socket of nobody, nor with keys of its own: none are made beside a trust file."""
    place.start()
    connect(tmp_path / "evidence", f"unix:{place.path}")
    place.stop()
    with pytest.raises(ConfigurationError) as refused:
        Enforcer.open(tmp_path / "evidence", keys=f"unix:{place.path}")
    assert refused.value.code == "signer_unavailable"
    with pytest.raises(ConfigurationError, match="or its signer, keys='unix:PATH'"):
        Enforcer.open(tmp_path / "evidence")
    assert [path.name for path in (tmp_path / "evidence" / "keys").iterdir()] == [".gitignore"]
    assert struct.calcsize("3i") == 12
