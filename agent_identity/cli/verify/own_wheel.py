"""The running package as a wheel, for receivers of evidence who cannot install it from an index."""

import base64
import hashlib
import io
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from agent_identity.errors import ConfigurationError
from agent_identity.version import VERSION

__all__ = ["own_wheel"]

_DISTRIBUTION: Final = "agent-identity-otel"
_PACKAGE: Final = Path(__file__).parents[2]
_INFO: Final = f"agent_identity_otel-{VERSION}.dist-info"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_WHEEL: Final = "Wheel-Version: 1.0\nGenerator: agent-identity\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


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
