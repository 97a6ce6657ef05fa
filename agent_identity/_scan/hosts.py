"""Finds contacts with model and MCP hosts in logs of proxies and resolvers (``hosts.json``)."""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cache
from io import TextIOWrapper
from typing import Final, TypedDict, cast

from agent_identity._scan._folders import opened
from agent_identity._scan._redaction import label
from agent_identity._scan._tables import read_table
from agent_identity.errors import ConfigurationError

_LONGEST_LINE: Final = 64 * 1024
_MOST_LINES: Final = 50_000_000
_MOST: Final = 100_000
_LONGEST_HOST: Final = 253


@dataclass(frozen=True, slots=True)
class Contact:
    """The contacts of one source with one host.

    Attributes:
        provider: Whose host it is, by the table or by the caller.
        host: Its name, in lower case, with the port if the log has one.
        source: Who contacted it, as the log says.
        first_seen: Time of the first line, in UTC; empty if no line has a time.
        last_seen: Time of the last line.
        count: Number of lines.
    """

    provider: str
    host: str
    source: str
    first_seen: str
    last_seen: str
    count: int


@dataclass(frozen=True, slots=True)
class Contacts:
    """The contacts in some logs.

    Attributes:
        contacts: All contacts, sorted.
        lines_read: Number of lines that were understood.
        lines_malformed: Number of lines without a host, or that are neither CSV nor JSON.
        truncated: Whether a limit ended the reading early.
    """

    contacts: tuple[Contact, ...] = ()
    lines_read: int = 0
    lines_malformed: int = 0
    truncated: bool = False


class _Table(TypedDict):
    hosts: dict[str, list[str]]


@cache
def _table() -> Mapping[str, Sequence[str]]:
    return read_table("hosts.json", _Table)["hosts"]


def contacts(logs: Sequence[str], *, gateways: Mapping[str, str] | None = None) -> Contacts:
    """Return the contacts with known hosts.

    Args:
        logs: Files of CSV with a header, or of one JSON object a line, each with ``host`` and, where known, ``time``
            and ``source``. A time is RFC 3339 or seconds since 1970.
        gateways: Hosts of your own, such as a gateway to models, by host name.

    Raises:
        ConfigurationError: A log cannot be read.
    """
    reader = _Reader({host.lower(): name for host, name in (gateways or {}).items()})
    for log in logs:
        reader.read(log)
    return reader.result()


class _Reader:
    def __init__(self, gateways: Mapping[str, str]) -> None:
        self._gateways = gateways
        self._found: dict[tuple[str, str, str], list[str | int]] = {}
        self._providers: dict[str, str] = {}
        self._read = self._malformed = 0
        self._truncated = False

    def read(self, log: str) -> None:
        """Read one log, line by line."""
        with opened(log) as file, TextIOWrapper(file, "utf-8-sig", errors="replace") as text:
            for row in _rows(self._lines(text)):
                host = _host(row.get("host"))
                if not host:
                    self._malformed += 1
                    continue
                self._read += 1
                self._count(host, row)

    def _lines(self, text: TextIOWrapper) -> Iterator[str]:
        """Yield lines up to the limits; the rest of a longer line is a line of its own, which means nothing."""
        while line := text.readline(_LONGEST_LINE):
            if self._read + self._malformed >= _MOST_LINES:
                self._truncated = True
                return
            yield line.replace("\0", "")

    def _count(self, host: str, row: Mapping[str, object]) -> None:
        provider = self._provider(host)
        if not provider:
            return
        key = (provider, host, label(_text(row.get("source"))))
        if key not in self._found and len(self._found) >= _MOST:
            self._truncated = True
            return
        moment = _moment(row.get("time"))
        seen = self._found.setdefault(key, [moment, moment, 0])
        first, last, count = str(seen[0]), str(seen[1]), int(seen[2])
        self._found[key] = [min(first, moment) if first and moment else first or moment, max(last, moment), count + 1]

    def _provider(self, host: str) -> str:
        """Return whose host it is; a host is looked up once."""
        if host not in self._providers and len(self._providers) < _MOST:
            bare = host.partition(":")[0]
            own = self._gateways.get(host) or self._gateways.get(bare)
            self._providers[host] = own or _known(host) or _known(bare)
        return self._providers.get(host, "")

    def result(self) -> Contacts:
        """Return all contacts."""
        found = [Contact(*key, str(first), str(last), int(count)) for key, (first, last, count) in self._found.items()]
        ordered = sorted(found, key=lambda one: (one.provider, one.host, one.source))
        return Contacts(tuple(ordered), self._read, self._malformed, self._truncated)


def _known(host: str) -> str:
    rows = _table().items()
    return next((name for name, patterns in rows if any(fnmatchcase(host, one) for one in patterns)), "")


def _rows(lines: Iterator[str]) -> Iterator[Mapping[str, object]]:
    """Yield the rows of a log: objects if its first line is one, else CSV."""
    first = next(lines, "")
    if first.lstrip().startswith("{"):
        yield _object(first)
        for line in lines:
            yield _object(line)
        return
    header = [name.strip().lower() for name in _cells(first)]
    if "host" not in header:
        raise ConfigurationError(
            "the log has no column 'host'; give CSV with that column, or a JSON object on each line"
        )
    for line in lines:
        yield dict(zip(header, _cells(line), strict=False))


def _cells(line: str) -> list[str]:
    with suppress(csv.Error):
        for row in csv.reader([line]):
            return row
    return []


def _object(line: str) -> Mapping[str, object]:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _host(value: object) -> str:
    """Return the name and port of a host, in lower case; of a URL its host only."""
    text = _text(value).strip().lower()
    text = text.partition("://")[2] or text
    text = text.partition("/")[0].rpartition("@")[2]
    name, colon, port = text.partition(":")
    joined = f"{name.rstrip('.')}{colon}{port}".removesuffix(":443")
    return joined if len(joined) <= _LONGEST_HOST and joined.isprintable() and " " not in joined else ""


def _moment(value: object) -> str:
    """Return a time in UTC, to the second; empty if it is none."""
    with suppress(ValueError, OverflowError, OSError):
        seconds = float(cast("str", value)) if isinstance(value, str | int | float) else math.nan
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with suppress(ValueError, OverflowError):
        when = datetime.fromisoformat(_text(value))
        when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
        return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return ""
