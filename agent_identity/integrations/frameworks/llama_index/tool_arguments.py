"""Arguments of LlamaIndex tools as their bodies get them: by name, with every default, and back again."""

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import NamedTuple, cast, final

from llama_index.core.tools import AsyncBaseTool, FunctionTool
from pydantic.fields import FieldInfo

from agent_identity.adapters import Binder
from agent_identity.integrations.frameworks.tool_schemas import with_defaults

__all__ = ["Bound", "ToolArguments"]

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class Bound(NamedTuple):
    """The arguments of one call. Frozen.

    Attributes:
        values: The arguments by name.
        supplied: The names that the caller gave.
        args: The positional arguments, as the caller gave them.
        fits: Whether the tool accepts the arguments; if not, its body refuses them itself.
    """

    values: Mapping[str, object]
    supplied: tuple[str, ...]
    args: tuple[object, ...]
    fits: bool = True


@final
class ToolArguments:
    """Binds and spreads the arguments of one tool.

    LlamaIndex hands over what the model wrote, without validation, and applies defaults behind every tool.

    Args:
        tool: The tool.
    """

    def __init__(self, tool: AsyncBaseTool) -> None:
        self._tool = tool
        self._binder: Binder | None = None
        self._names: tuple[str, ...]
        if isinstance(tool, FunctionTool):
            self._binder = Binder(tool.real_fn)
            parameters = signature(tool.real_fn).parameters.values()
            self._names = tuple(each.name for each in parameters if each.kind in _POSITIONAL)
        else:
            self._schema = tool.metadata.get_parameters_dict()
            self._names = tuple(cast("Mapping[str, object]", self._schema.get("properties") or {}))

    def bind(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Bound:
        """Return the arguments of a call.

        Args:
            args: The positional ones.
            kwargs: The others.
        """
        supplied = (*self._names[: len(args)], *kwargs)
        try:
            return Bound(self._values(args, kwargs), supplied, args)
        except TypeError:
            listed = {f"argument_{number}": value for number, value in enumerate(args)}
            return Bound({**listed, **kwargs}, (*listed, *kwargs), args, fits=False)

    def spread(self, bound: Bound, judged: Mapping[str, object]) -> tuple[tuple[object, ...], Mapping[str, object]]:
        """Return judged arguments as the tool takes them: positional ones, and the others.

        Args:
            bound: The arguments of the call.
            judged: Their judged values.
        """
        if bound.fits and self._binder is not None:
            return self._binder.spread(judged, bound.args)
        names = self._names if bound.fits else tuple(judged)
        rest, count = dict(judged), len(bound.args)
        return tuple(rest.pop(name) for name in names[:count]), rest

    def _values(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Mapping[str, object]:
        if self._binder is None:
            if len(args) > len(self._names) or not kwargs.keys().isdisjoint(self._names[: len(args)]):
                raise TypeError("two arguments have one name")
            named = dict(zip(self._names, args, strict=False))
            return with_defaults({**named, **kwargs}, self._schema)[0]
        partial = cast("Mapping[str, object]", cast("FunctionTool", self._tool).partial_params)
        values, _ = self._binder.bind(args, {**partial, **kwargs})
        return {name: _default_of(value) for name, value in values.items()}


def _default_of(value: object) -> object:
    """Return the default in a field that stands in the place of a value."""
    if isinstance(value, FieldInfo) and not value.is_required():
        return value.get_default(call_default_factory=True)
    return value
