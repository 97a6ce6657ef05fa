"""The detail of an outcome, held against the commitment to it."""

from agent_identity._identity.common.encoding import digest_of
from agent_identity._record.codec import decode_detail
from agent_identity._record.schema import AnyRecord, Detail, Outcome


def detail_of(record: AnyRecord, data: bytes | None) -> tuple[Detail | None, str]:
    """Return the detail of a record, or the code of the finding if line and record do not say the same about it.

    Args:
        record: The record.
        data: The bytes of the detail in its line, if there are any.
    """
    stated = record.detail if isinstance(record, Outcome) else None
    if stated is None or data is None:
        return None, "" if (stated, data) == (
            None,
            None,
        ) else "detail_missing" if data is None else "detail_uncommitted"
    if digest_of(data) != stated:
        return None, "detail_mismatch"
    try:
        return decode_detail(data), ""
    except ValueError:
        return None, "detail_malformed"
