"""Records of tests as plain dicts: appended as they are, however wrong, and held against the form of a record."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from agent_identity import canonical
from agent_identity._ledger.writer import Entry
from agent_identity._record.codec import decode
from agent_identity._record.parts import Time
from agent_identity.options import Ledger


class _Plain(dict[str, Any]):
    """Members that are written as they are."""

    @property
    def id(self) -> str:
        """The id of the record."""
        return self["id"]

    @property
    def time(self) -> Time:
        """When it was."""
        return Time(**self["time"])

    @property
    def stream(self) -> Any:
        """Its place."""
        return self.place

    place: Any = None
    v: str = "1"


def plain(kind: str, body: Mapping[str, Any]) -> Callable[..., Any]:
    """Return what makes a record of a kind with these members."""

    def make(**members: Any) -> Any:
        place = members["stream"]
        stream = {"id": place.id, "seq": place.seq, "prev": place.prev}
        members["stream"] = {name: value for name, value in stream.items() if value is not None}
        record = _Plain({"kind": kind, **members, **body})
        record.place, record.v = place, members["v"]
        return record

    return make


def append(
    ledger: Ledger, kind: str, body: Mapping[str, Any], *, after: Callable[[Entry], object] | None = None
) -> Entry:
    """Append a record of a kind with these members, by default of now."""
    if "time" not in body:
        body = {**body, "time": {"start": Time.at(ledger.clock.wall_ns()).start}}
    return ledger.append(plain(kind, body), after=after)


def check_record(record: Mapping[str, Any]) -> None:
    """Check that plain members are a record; a ValueError says why they are none."""
    try:
        data = canonical.encode(record)
    except ValueError as error:
        raise ValueError(f"record: {error}") from None
    decode(data)


def error_type(make: Any) -> str:
    """Return the kind of what ``Ledger.append`` is to make."""
    while isinstance(make, partial):
        make = make.func
    return make.__struct_config__.tag
