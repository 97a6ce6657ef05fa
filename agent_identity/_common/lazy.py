"""Lazy package exports (PEP 562): a name is imported from its module on first use."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

__all__ = ["lazily"]


def lazily(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package that exports names of its modules.

    A program then loads only the modules whose names it uses. The package caches each name, and has its modules as
    attributes. Type checkers read the imports of the package under ``TYPE_CHECKING``; a test compares the two.

    Args:
        package: The name of the package.
        modules: The modules, by full name or as ``.name`` in the package, each with the names that it exports.
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def find(name: str) -> object:
        home = homes.get(name)
        if home is None:
            return _submodule(package, name)
        value: object = getattr(import_module(home, package), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(import_module(package)), *homes})

    return find, names


def _submodule(package: str, name: str) -> object:
    if name.isidentifier() and not name.startswith("_"):  # A private name imports nothing.
        try:
            return import_module(f"{package}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{package}.{name}":
                raise
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
