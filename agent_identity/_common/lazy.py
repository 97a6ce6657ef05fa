"""Lazy names of a public module (PEP 562): each is imported from the module that defines it on first use."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def lazily(module: str, homes: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a module that gathers names of others.

    A program then loads only the modules whose names it uses. Each name is kept when it was found. Type checkers read
    the imports under ``TYPE_CHECKING``; a test compares the two.

    Args:
        module: The name of the module.
        homes: The modules that define its names, each with these names.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def find(name: str) -> object:
        home = home_of.get(name)
        if home is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value: object = getattr(import_module(home), name)
        setattr(sys.modules[module], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[module]), *home_of})

    return find, names
