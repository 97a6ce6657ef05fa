"""Finding for bytes that are no record of this release."""

from typing import Final, cast

import orjson

from agent_identity._record.parts import VERSION

_UNKNOWN_RECORD: Final = (
    "the version or form of the record is unknown to this release; verify with the release that wrote it, or a later "
    "one"
)


def malformed(data: bytes, problem: str) -> tuple[str, str]:
    """Return code and message of the finding for malformed bytes, or for a record of an unknown version.

    Bytes of our version that lack its form are malformed. Other versions may have another form.

    Args:
        data: The bytes.
        problem: The reason why they cannot be decoded.
    """
    try:
        members: object = orjson.loads(data)
    except ValueError:
        members = None
    version = cast("dict[str, object]", members).get("v") if isinstance(members, dict) else None
    if isinstance(version, str) and version != VERSION:
        return "unknown_record", _UNKNOWN_RECORD
    return "malformed_record", problem
