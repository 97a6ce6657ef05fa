"""Sending until everything is acknowledged: what is tried again, split, set aside, and when the sender gives up."""

import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from plain_records import append

from agent_identity._directory.export._http_receiver import HttpReceiver
from agent_identity._directory.export.export_cursors import Cursors
from agent_identity._directory.export.export_queue import StreamCopies
from agent_identity._directory.export.ledger_exporter import LedgerExport, LedgerExporter
from agent_identity._directory.export.receivers import Answer, Settings, address
from agent_identity._directory.export.sender import DeliveryError, Pace, Shipper, Stopped
from agent_identity._spans.span_from_record import RecordSpan
from agent_identity._storage.layout import Layout
from agent_identity._storage.mac import load_ledger_key
from agent_identity._storage.os_files import Files
from agent_identity.errors import ConfigurationError
from agent_identity.identity import SigningKey, TrustedKey, TrustStore
from agent_identity.options import Ledger
from agent_identity.testing import FixedClock, SequentialIds

KEY = SigningKey.from_seed(bytes([7]) * 32)
TRUST = TrustStore((TrustedKey(KEY.public_key, "recorder"),))
CALL: dict[str, Any] = {
    "attribution": "none",
    "action": {"tool": "pay", "kind": "function"},
    "decision": {"effect": "block", "enforced": "block", "mode": "enforce", "reason": "no_task"},
    "outcome": "denied",
}
TAKEN, LATER, REFUSED = Answer("taken"), Answer("later", "down"), Answer("refused", "HTTP 400")
RECORD = "agent_identity.record.id"


class Scripted:
    """A receiver that answers as a function of the records says, and keeps what it took."""

    def __init__(self, answer: Callable[[list[str]], Answer]) -> None:
        self.answer = answer
        self.taken: list[str] = []
        self.sizes: list[int] = []

    def send(self, spans: Sequence[RecordSpan]) -> Answer:
        """Answer."""
        names = [str(span.attributes[RECORD]) for span in spans]
        self.sizes.append(len(names))
        answer = self.answer(names)
        if answer.kind == "taken":
            self.taken += names
        return answer


class Desk:
    """A ledger with some calls, and what sends them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files, self.layout = Files(), Layout.of(folder)
        clock, ids = FixedClock(), SequentialIds()
        self.ledger = Ledger.open(folder, signer=KEY, origin="test", clock=clock, ids=ids)
        self.ids = [append(self.ledger, "outcome", CALL).id for _ in range(10)]
        self.waits: list[float] = []
        self.cursors = Cursors.of(self.files, self.layout, "x")
        self.stop_after = 50

    def wait(self, seconds: float) -> bool:
        """Wait no time, and note how long it should have been."""
        if seconds:
            self.waits.append(seconds)
        return len(self.waits) >= self.stop_after

    def shipper(self, receiver: Scripted, **options: Any) -> Shipper:
        """Return what sends to a receiver."""
        given = {"patience": None, "strict": False, "breath": 0.00001, "jitter": lambda: 1.0, **options}
        key = load_ledger_key(self.files, self.layout.ledger_key)

        def copies(stream: str, after: int) -> StreamCopies:
            return StreamCopies(self.files, self.layout, stream, key, signer=KEY, trust=TRUST, after=after)

        return Shipper(
            self.layout, self.files, self.cursors, receiver, copies=copies, pace=Pace(wait=self.wait, **given)
        )


@pytest.fixture
def desk(tmp_path: Path) -> Any:
    """Return a ledger with ten calls."""
    desk = Desk(tmp_path / "evidence")
    yield desk
    desk.ledger.close()


def test_what_is_taken_is_sent_once(desk: Desk) -> None:
    """A second run finds nothing, and another sender neither."""
    receiver = Scripted(lambda _: TAKEN)
    shipper = desk.shipper(receiver)
    assert shipper.run()
    assert not shipper.run()
    assert receiver.taken == desk.ids
    assert (shipper.shipped.sent, shipper.shipped.refused, shipper.shipped.unproved) == (10, 0, 0)
    desk.shipper(receiver).run()
    assert receiver.taken == desk.ids
    desk.ledger.close()
    while shipper.run():
        pass
    assert desk.cursors.behind() == 0


def test_waits_grow_and_hear_what_the_receiver_asks_for(desk: Desk) -> None:
    """Twice as long each time, up to half a minute; never less than was asked for, and short again after a success."""
    answers = iter([LATER] * 9 + [Answer("later", "busy", 99.0), TAKEN, LATER, TAKEN])
    receiver = Scripted(lambda _: next(answers))
    shipper = desk.shipper(receiver)
    shipper.run()
    assert desk.waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 99]
    append(desk.ledger, "outcome", CALL)
    shipper.run()
    assert desk.waits[10:] == [0.5]


def test_a_batch_that_is_too_large_is_split(desk: Desk) -> None:
    """Until it fits; one that does not fit alone is set aside."""
    receiver = Scripted(lambda names: TAKEN if len(names) <= 2 else Answer("too_large", "HTTP 413"))
    desk.shipper(receiver).run()
    assert receiver.taken == desk.ids
    assert receiver.sizes[0] == 10


@pytest.mark.parametrize("place", [0, 4, 9])
def test_one_poisoned_record_is_found_and_set_aside(desk: Desk, place: int) -> None:
    """Wherever it is: the others arrive, in their order, and the one is named."""
    poison = desk.ids[place]
    receiver = Scripted(lambda names: REFUSED if poison in names else TAKEN)
    shipper = desk.shipper(receiver)
    shipper.run()
    assert sorted(set(receiver.taken)) == sorted(set(desk.ids) - {poison})
    (aside,) = desk.cursors.aside()
    assert (aside.record, aside.reason, shipper.shipped.refused) == (poison, "HTTP 400", 1)
    assert desk.waits == []


def test_a_receiver_that_refuses_everything_sets_nothing_aside(desk: Desk) -> None:
    """It is broken, not the records: they wait, and arrive once it is repaired."""
    receiver = Scripted(lambda _: REFUSED)
    shipper = desk.shipper(receiver)
    desk.stop_after = 5
    with pytest.raises(Stopped):
        shipper.run()
    assert list(desk.cursors.aside()) == []
    receiver.answer = lambda _: TAKEN
    desk.waits.clear()
    desk.shipper(receiver).run()
    assert receiver.taken == desk.ids


@pytest.mark.parametrize("calls", [0, 1])
def test_a_receiver_that_is_repaired_while_it_is_asked_about_others_sets_nothing_aside(desk: Desk, calls: int) -> None:
    """It takes others by then, and would take the record too: nothing says that the record is at fault."""
    receiver = Scripted(lambda _: TAKEN)
    shipper = desk.shipper(receiver)
    if calls:
        shipper.run()
        desk.ids += [append(desk.ledger, "outcome", CALL).id]
    receiver.answer = lambda names: TAKEN if receiver.sizes[-2:-1] == [1] else REFUSED
    shipper.run()
    assert set(receiver.taken) == set(desk.ids)
    assert list(desk.cursors.aside()) == []


def test_a_strict_sender_stops_at_a_refusal_and_goes_on_from_there(desk: Desk) -> None:
    """The error names the record; what came before it is not sent again."""
    poison = desk.ids[5]
    receiver = Scripted(lambda names: REFUSED if poison in names else TAKEN)
    with pytest.raises(DeliveryError, match=poison) as refused:
        desk.shipper(receiver, strict=True).run()
    assert refused.value.code == "record_refused"
    assert receiver.taken == desk.ids[:5]


def test_patience_ends(desk: Desk) -> None:
    """Without an acknowledgement for long enough the sender gives up, and at once where waiting changes nothing."""
    with pytest.raises(DeliveryError, match="down") as given_up:
        desk.shipper(Scripted(lambda _: LATER), patience=3.0).run()
    assert given_up.value.code == "receiver_unavailable"
    assert sum(desk.waits) >= 3
    desk.waits.clear()
    with pytest.raises(DeliveryError, match="404"):
        desk.shipper(Scripted(lambda _: Answer("unusable", "HTTP 404")), patience=3.0).run()
    assert desk.waits == []


def test_a_sender_that_is_to_end_ends_between_batches(desk: Desk) -> None:
    """Nothing is lost: the place stays where it is."""
    desk.stop_after = 0
    with pytest.raises(Stopped):
        desk.shipper(Scripted(lambda _: TAKEN)).run()
    desk.stop_after = 50
    receiver = Scripted(lambda _: TAKEN)
    desk.shipper(receiver).run()
    assert receiver.taken == desk.ids


def test_a_port_where_nobody_listens_is_tried_again() -> None:
    """No answer is no acknowledgement, whichever way it stays out."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    parts = address(f"http://127.0.0.1:{port}", "http/json")
    answer = HttpReceiver(parts, Settings(protocol="http/json"), {}).send([])
    assert (answer.kind, answer.reason) == ("later", "Connection refused")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"", "RemoteDisconnected"),
        (b"nonsense\r\n\r\n", "broken answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\nshort", "broken answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n" + b"x" * 70_000, "broken answer"),
        (None, "no answer within"),
    ],
)
def test_an_answer_that_is_none_is_tried_again(reply: bytes | None, reason: str) -> None:
    """Cut, nonsense, far too long, or never coming."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                while not peer.recv(65_536).endswith(b"{}"):
                    pass
                if reply is None:
                    done.wait(30)
                else:
                    peer.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        parts = address(f"http://127.0.0.1:{server.getsockname()[1]}", "http/json")
        answer = HttpReceiver(parts, Settings(protocol="http/json", timeout=0.3 if reply is None else 10), {}).send([])
        done.set()
        thread.join()
    assert answer.kind == "later"
    assert reason in answer.reason


def test_a_certificate_that_is_not_trusted_stops_a_strict_sender(tmp_path: Path) -> None:
    """Nothing is sent to a server that cannot prove its name."""
    tls = pytest.importorskip("ssl")
    files = _self_signed(tmp_path)
    context = tls.SSLContext(tls.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            with peer, pytest.raises(OSError):  # noqa: PT011  The other side hangs up.
                context.wrap_socket(peer, server_side=True).recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        parts = address(f"https://127.0.0.1:{server.getsockname()[1]}", "http/json")
        answer = HttpReceiver(parts, Settings(protocol="http/json"), {}).send([])
        thread.join()
    assert answer.kind == "unusable"


def _self_signed(folder: Path) -> tuple[str, str]:
    """Return the paths of a certificate that nobody trusts, and of its key."""
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.x509.oid import NameOID

    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + dt.timedelta(days=1)
    )
    certificate = builder.sign(key, None)
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    return str(folder / "cert.pem"), str(folder / "key.pem")


def export(desk: Desk) -> LedgerExport:
    """Return an export to a receiver that is down."""
    settings = Settings(protocol="http/json")
    return LedgerExport(desk.folder, "http://127.0.0.1:1", signer=KEY, trust=TRUST, settings=settings, resource={})


def test_without_the_key_of_the_ledger_nothing_is_signed(desk: Desk) -> None:
    """Nobody could tell what the library wrote, so the export does not begin; the message says what is missing."""
    Path(desk.layout.ledger_key).unlink()
    with pytest.raises(ConfigurationError, match=r"ledger\.key"):
        export(desk)
    assert not Path(desk.layout.ledger_key).exists()


def test_an_exporter_ends_at_once_while_its_receiver_is_down(desk: Desk) -> None:
    """Nobody waits at the end of a process for a collector that takes nothing; before its start, for nothing at all."""
    LedgerExporter(export(desk)).close()
    exporter = LedgerExporter(export(desk)).start()
    exporter.close()
    exporter.close()
    assert not exporter._thread.is_alive()
    exporter.after_fork_in_child()  # Of one that was closed nothing goes on.
    assert not exporter._thread.is_alive()


def test_a_directory_that_cannot_be_written_ends_no_exporter(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread tries again later, and says why it waits."""
    exporting = export(desk)
    tried = threading.Event()

    def alone(_: Any) -> Any:
        tried.set()
        raise OSError(30, "read-only")

    monkeypatch.setattr(Cursors, "alone", alone)
    exporter = LedgerExporter(exporting).start()
    assert tried.wait(10)
    exporter.close()
    assert "copies of the evidence wait" in caplog.text
