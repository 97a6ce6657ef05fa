"""Escapes what cannot be printed: control characters, and characters that reorder or hide others."""


def escaped(text: str) -> str:
    """Return text in which every character that is not printable is written as its escape sequence."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
