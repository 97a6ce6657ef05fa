"""The file of an excerpt: where each part of a stream starts and ends."""

import pytest

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._ledger.excerpt_starts import Excerpt, Start

STREAM = "AaFoNAumcACAAAAAAAADKQ"
HASH = b64url_encode(bytes(32))
ALL = {"size": "1", "end": "3", "last": HASH, "peaks": (HASH,)}


def file(**changes: object) -> bytes:
    """Return the file of one part."""
    start = {name: value for name, value in (ALL | changes).items() if value is not None}
    return encode_record({"v": "1", "streams": {STREAM: start}})


def test_a_part_is_read_as_it_was_written() -> None:
    """The state of the stream before it, and its last place."""
    excerpt = Excerpt({STREAM: Start(1, bytes(32), (bytes(32),), 3)})
    assert Excerpt.from_bytes(excerpt.to_bytes()) == excerpt
    assert excerpt.to_bytes() == file()


@pytest.mark.parametrize(
    "changes",
    [
        {"end": "0", "size": "0", "last": None, "peaks": None},
        {"size": "4"},
        {"size": "0"},
        {"last": None},
        {"end": None},
        {"more": "x"},
    ],
    ids=str,
)
def test_a_part_that_cannot_be_is_refused(changes: dict[str, object]) -> None:
    """It ends after it begins, and says what was before it, and nothing else."""
    with pytest.raises(ValueError, match="part"):
        Excerpt.from_bytes(file(**changes))
