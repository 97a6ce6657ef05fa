"""The JSON form of a scan."""

from dataclasses import asdict

from agent_identity._scan.hosts import Contacts
from agent_identity._scan.results import Scan
from agent_identity.version import VERSION


def json_of(found: Scan, met: Contacts | None = None) -> dict[str, object]:
    """Return a scan as one JSON object; file names that are not text have lone surrogates, which JSON escapes.

    Args:
        found: The scan.
        met: The contacts in logs, if there are any.
    """
    return {
        "version": VERSION,
        "items": [asdict(item) for item in found.items],
        "edges": [asdict(edge) for edge in found.edges],
        "files_read": found.files_read,
        "files_other": found.files_other,
        "typescript_files": found.typescript_files,
        "unread": [asdict(one) for one in found.unread],
        "truncated": found.truncated,
        "instrumented": found.instrumented,
        **({} if met is None else {"logs": asdict(met)}),
    }
