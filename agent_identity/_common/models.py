"""The classes of pydantic's models, without loading pydantic where no program has any."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel


def models() -> "tuple[type[BaseModel], ...]":
    """Return the base class of models; nothing while none can exist."""
    found: type[BaseModel] | None = getattr(sys.modules.get("pydantic.main"), "BaseModel", None)
    return () if found is None else (found,)


def is_root_model(kind: type) -> bool:
    """Return whether a class of models has a value in place of fields."""
    found: type[BaseModel] | None = getattr(sys.modules.get("pydantic.root_model"), "RootModel", None)
    return found is not None and issubclass(kind, found)
