"""Catches up with an OTLP receiver from the ledger, for the command and for the background thread."""

import atexit
import functools
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Final, Self, final
from urllib.parse import SplitResult

from agent_identity._directory.export.export_cursors import Cursors
from agent_identity._directory.export.export_queue import StreamCopies, Wanted
from agent_identity._directory.export.receivers import OtlpProtocol, Receiver, Settings, address
from agent_identity._directory.export.sender import Pace, Shipped, Shipper, Stopped
from agent_identity._guard.common.failures import safe_message
from agent_identity._identity.keys.keys import Signer
from agent_identity._identity.trust.store import TrustStore
from agent_identity._storage.layout import Layout
from agent_identity._storage.mac import LedgerKey, load_ledger_key
from agent_identity._storage.os_files import Files
from agent_identity.errors import ConfigurationError

_LOG: Final = logging.getLogger("agent_identity")
_POLL: Final = 0.25  # Seconds between two looks at the ledger.
_STANDBY: Final = 2.0  # Seconds between two attempts to be the process that sends.
_BREATH: Final = 0.00005  # As in the sealing worker: other threads get the interpreter.
_GRACE: Final = 5.0
"""Seconds that the exiting process waits for copies under way, as long as the receiver takes them."""


@final
class LedgerExport:
    """The export of one evidence directory to one receiver.

    Args:
        directory: The evidence directory.
        endpoint: The address of the receiver, such as ``http://localhost:4318``.
        signer: The recorder key.
        trust: The validity times of its signatures.
        settings: The OTLP settings.
        resource: The resource attributes of the spans; by default those of the SDK, from its environment.
        selection: The selection of records, in words: each selection has a cursor of its own.
        wanted: Selects the records whose spans are sent.
        keys: The folder of ``ledger.key``, if the keys are kept outside the directory.

    Raises:
        ConfigurationError: The address or a setting is unusable, a library is missing, or the directory has no
            ledger key, without which no record may be signed.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        endpoint: str,
        *,
        signer: Signer,
        trust: TrustStore,
        settings: Settings | None = None,
        resource: Mapping[str, str] | None = None,
        selection: str = "",
        wanted: Wanted = lambda _: True,
        keys: str | os.PathLike[str] | None = None,
    ) -> None:
        chosen = settings or Settings.from_environment()
        parts = address(endpoint, chosen.protocol)
        make = _receivers(chosen.protocol)
        self._receiver = make(parts, chosen, _default_resource() if resource is None else resource)
        self._files = Files()
        self._layout = Layout.of(directory, keys)
        self._key = _ledger_key(self._files, self._layout.ledger_key)
        self._signer = signer
        self._trust = trust
        self._wanted = wanted
        self.cursors = Cursors.of(self._files, self._layout, f"{parts.geturl()} {selection}".strip())

    def shipper(self, pace: Pace, progress: Callable[[Shipped], None] = lambda _: None) -> Shipper:
        """Return the sender; use it only while :meth:`Cursors.alone` holds."""
        return Shipper(
            self._layout,
            self._files,
            self.cursors,
            self._receiver,
            copies=self._copies,
            pace=pace,
            progress=progress,
        )

    def _copies(self, stream: str, after: int) -> StreamCopies:
        return StreamCopies(
            self._files,
            self._layout,
            stream,
            self._key,
            signer=self._signer,
            trust=self._trust,
            after=after,
            wanted=self._wanted,
        )


def _receivers(protocol: OtlpProtocol) -> Callable[[SplitResult, Settings, Mapping[str, str]], Receiver]:
    try:
        if protocol == "grpc":
            from agent_identity._directory.export._grpc_receiver import GrpcReceiver  # noqa: PLC0415  Needs grpcio.

            return GrpcReceiver
        from agent_identity._directory.export._http_receiver import HttpReceiver  # noqa: PLC0415  Needs an extra.
    except ImportError as error:
        raise ConfigurationError(
            f"the package {error.name} is not installed; run pip install '.[otlp]' in the checkout, and grpcio for "
            "the protocol grpc"
        ) from None
    return HttpReceiver


def _default_resource() -> dict[str, str]:
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  Takes a while to load.

    return {name: str(value) for name, value in Resource.create().attributes.items()}


def _ledger_key(files: Files, path: str) -> LedgerKey:
    if not os.path.lexists(path):
        raise ConfigurationError(
            f"{path!r} is missing; restore it from a backup, since only records that it proves to be "
            "the library's own are signed"
        )
    return load_ledger_key(files, path)


@final
class LedgerExporter:
    """A background thread that sends new ledger records while the process lives.

    Of the processes with one directory open, one sends for all; when it ends, another takes over. The thread reads
    the files, not memory, so no call waits for it and no queue can fill up.

    Args:
        export: The export.
    """

    def __init__(self, export: LedgerExport) -> None:
        self._export = export
        self._shipper: Shipper | None = None
        self._problem: str | None = None
        self._at_exit = functools.partial(_close_at_exit, weakref.ref(self))
        self._begin()

    def _begin(self) -> None:
        self._ending = threading.Event()
        self._until: float | None = None
        self._thread = threading.Thread(target=self._run, name="agent-identity-export", daemon=True)

    def start(self) -> Self:
        """Start the thread and return the exporter."""
        atexit.register(self._at_exit)
        self._thread.start()
        return self

    def acknowledged(self, stream: str) -> int:
        """Return the place in a stream up to which the receiver has all spans, whichever process sent them."""
        return self._export.cursors.get(stream).seq

    @property
    def fault(self) -> str | None:
        """Why copies wait, or ``None``; of the processes with the directory open, the one that sends says so."""
        return self._problem or (None if self._shipper is None else self._shipper.fault)

    def close(self) -> None:
        """Send the rest, for a few seconds and only while the receiver takes it, and end the thread; idempotent."""
        atexit.unregister(self._at_exit)
        self._until = time.monotonic() + _GRACE
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(_GRACE)

    def after_fork_in_child(self) -> None:
        """Continue in a forked child, which has no thread; the parent sends for both while it lives."""
        if not self._ending.is_set():
            self._export.cursors.drop()
            self._begin()
            self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                with self._export.cursors.alone() as alone:
                    if alone:
                        self._follow()
                        return
            except Stopped:
                return
            except Exception as error:  # noqa: BLE001 - Copies fail open: the ledger has all; the next turn continues.
                self._problem = f"copies of the evidence wait: {safe_message(error)}"
                _LOG.warning("%s", self._problem)
            if self._ending.wait(_STANDBY):
                return

    def _follow(self) -> None:
        """Send until the process ends, and then the rest."""
        pace = Pace(wait=self._wait, patience=None, strict=False, breath=_BREATH, jitter=random.random)
        shipper = self._shipper = self._export.shipper(pace)
        while True:
            ending = self._ending.is_set()
            news = shipper.run()
            self._problem = None
            if ending and not news:
                return
            if not news:
                self._ending.wait(_POLL)

    def _wait(self, seconds: float) -> bool:
        """Wait, and return whether to end: at once if the receiver takes nothing, otherwise after the time."""
        if seconds:
            return self._ending.wait(seconds)
        return self._until is not None and time.monotonic() >= self._until


def _close_at_exit(reference: "weakref.ref[LedgerExporter]") -> None:
    exporter = reference()
    if exporter is not None:
        exporter.close()
