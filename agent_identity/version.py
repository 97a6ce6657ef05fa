"""The version of the library, defined only here."""

from typing import Final

__all__ = ["VERSION"]

VERSION: Final = "0.1.0"
