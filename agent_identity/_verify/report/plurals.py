"""Spells numbers with their nouns."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in the right form.

    Args:
        number: The number.
        noun: The noun, in the singular.
    """
    if number != 1:
        plural = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"
        noun = f"{noun}es" if noun.endswith("s") else plural
    return f"{number:,} {noun}"
