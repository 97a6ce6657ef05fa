"""Makes text from evidence inert: no control characters, and no formula in a spreadsheet that opens an export."""

from typing import Final

from agent_identity._common.printing import escaped

_FORMULA: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n")  # Wide ones as well.


def inert(text: str) -> str:
    """Return text that neither steers a terminal nor begins a formula.

    Text that a spreadsheet would take for a formula gets an apostrophe before it; all other printable text stays as it
    is, so that names can be searched for.
    """
    return escaped(f"'{text}" if text.startswith(_FORMULA) else text)
