"""Parses times that people write: RFC 3339, or a date, in UTC."""

from datetime import UTC, datetime

from agent_identity.errors import ConfigurationError

_EPOCH = datetime.fromtimestamp(0, UTC)


def moment_ns(text: str) -> int:
    """Return a time in nanoseconds since the Unix epoch; without a zone it is UTC, and a date is its start.

    Args:
        text: A date, or a time of RFC 3339.

    Raises:
        ConfigurationError: The text is neither, or the time is before 1970.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is not None and moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if moment is None or moment < _EPOCH:
        raise ConfigurationError(
            f"{text!r} is not a time from 1970 on; write one such as 2026-11-24 or 2026-11-24T12:00:00Z (UTC)"
        )
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
