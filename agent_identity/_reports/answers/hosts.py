"""The table of hosts by which plain HTTP client spans tell of model providers and MCP servers."""

from fnmatch import fnmatchcase
from functools import lru_cache
from pkgutil import get_data
from typing import Final, final

import msgspec

from agent_identity._identity.common.private_files import read_public_file
from agent_identity._verify.inputs.sources import PathLike
from agent_identity.errors import ConfigurationError

_MAX_TABLE: Final = 1 << 20
_MAX_HOSTS: Final = 10_000
_KNOWN: Final = 4_096


class Host(msgspec.Struct, frozen=True):
    """An entry of the table.

    Attributes:
        host: The name, with ``*`` for any text, and ``:PORT`` where only one port counts.
        provider: Who runs it, by the names of the GenAI conventions; may be empty.
        what: What is there: ``model``, ``gateway``, ``agent`` or ``mcp``.
    """

    host: str
    provider: str
    what: str


class _Table(msgspec.Struct, frozen=True):
    dated: str
    hosts: list[Host]


@final
class Hosts:
    """A table of hosts.

    Args:
        dated: The date of the table.
        hosts: The entries; the first one that fits counts.
    """

    def __init__(self, dated: str, hosts: tuple[Host, ...]) -> None:
        self.dated = dated
        self._exact = {entry.host: entry for entry in reversed(hosts) if "*" not in entry.host}
        self._patterns = [entry for entry in hosts if "*" in entry.host]
        self._found: dict[tuple[str, int | None], Host | None] = {}

    @classmethod
    def standard(cls) -> "Hosts":
        """Return the table of this release."""
        return _standard()

    @classmethod
    def load(cls, path: PathLike) -> "Hosts":
        """Return the table of this release with the entries of a file before its own, such as gateways of a company.

        Args:
            path: A file in the form of ``hosts.json``.

        Raises:
            ConfigurationError: The file cannot be read, or has another form.
        """
        own = _read(read_public_file(path, limit=_MAX_TABLE))
        standard = _standard_entries()
        return cls(f"{standard[0]} and {own[0]}", (*own[1], *standard[1]))

    def find(self, host: str, port: int | None) -> Host | None:
        """Return the entry of a host."""
        key = (host, port)
        if key not in self._found:
            if len(self._found) >= _KNOWN:
                self._found.clear()
            self._found[key] = self._search(host, port)
        return self._found[key]

    def _search(self, host: str, port: int | None) -> Host | None:
        named = host if port is None else f"{host}:{port}"
        exact = self._exact.get(named) or self._exact.get(host)
        if exact is not None:
            return exact
        return next((entry for entry in self._patterns if fnmatchcase(host, entry.host)), None)


@lru_cache(maxsize=1)
def _standard() -> Hosts:
    return Hosts(*_standard_entries())


def _standard_entries() -> tuple[str, tuple[Host, ...]]:
    return _read(get_data(__name__, "hosts.json") or b"")


def _read(data: bytes) -> tuple[str, tuple[Host, ...]]:
    try:
        table = msgspec.json.decode(data, type=_Table)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ConfigurationError(
            'bad table of hosts; give {"dated": DATE, "hosts": [{"host": …, "provider": …, "what": …}]}'
        ) from None
    if len(table.hosts) > _MAX_HOSTS:
        raise ConfigurationError(f"bad table of hosts: more than {_MAX_HOSTS:,} entries; split it")
    return table.dated, tuple(Host(one.host.lower(), one.provider, one.what) for one in table.hosts)
