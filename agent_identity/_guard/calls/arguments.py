"""Arguments as the body gets them: bound to names, with defaults, copied, bounded.

One and the same value is judged, run and digested. JSON-like arguments are copied deeply, so no one can change them
between check and use. Values that are not JSON but have one stable form (decimals, dates, UUIDs, enum members,
dataclasses, pydantic models) are judged, digested and shown in that form, and the body gets a copy of the original
type. Anything else (a connection, a runtime object) is passed by reference, recorded as *opaque*, and satisfies no
constraint.
"""

import dataclasses
import inspect
import math
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from types import GetSetDescriptorType, MappingProxyType, MemberDescriptorType
from typing import Any, Final, NamedTuple, TypeGuard, TypeVar, cast, final
from weakref import WeakKeyDictionary

import orjson
from msgspec import Struct

from agent_identity import canonical
from agent_identity._common.models import is_root_model, models
from agent_identity._common.narrowing import is_array, is_dict, is_object, is_plain_array, is_plain_dict
from agent_identity._constraints.value_forms import DecimalText, NoFormError, form_of
from agent_identity._record.commitments import part
from agent_identity.canonical import JSON

MAX_NODES: Final = 100_000
"""Maximum number of values, in all containers, in the arguments of one call."""

MAX_ARGUMENTS: Final = 256
"""Maximum number of arguments of one call; records hold their names."""

MAX_NAME: Final = 128
"""Maximum length of an argument name; a model may choose the names of ``**kwargs``."""

MAX_TEXT: Final = 8 * 1024 * 1024
"""Maximum length of all texts in the arguments of one call."""

_MAX_INT: Final = (1 << 63) - 1
_MIN_INT: Final = -(1 << 63)
_MAX_SOUND: Final = 1_024
_SOUND: Final[set[str]] = set()  # Cache of checked ASCII names: parameter names repeat in every call.


class BadArgumentsError(ValueError):
    """An argument is ambiguous or too large; the body must not run with it.

    Attributes:
        argument: The name of the argument; ``None`` if the names are wrong.
    """

    def __init__(self, argument: str | None, problem: str) -> None:
        super().__init__(problem if argument is None else f"argument {argument!r}: {problem}")
        self.argument = argument


@final
class _Opaque:
    """Marker of an opaque argument for constraints and policies; of no JSON type."""

    def __repr__(self) -> str:
        return "<opaque>"


OPAQUE: Final = _Opaque()
_NO_OPAQUE: Final[frozenset[str]] = frozenset()


@final
class Arguments(Struct, frozen=True, eq=False):
    """The checked snapshot of one call.

    Attributes:
        values: The values for the body, by parameter name.
        view: The values for constraints and policies: in their JSON forms, opaque arguments as a marker.
        counted: The values for limits: in their JSON forms, including those that the framework injected.
        supplied: Names that the caller supplied; the others are defaults or injected.
        opaque: Names of the arguments passed by reference.
        plain: Without unusual floats, and with ASCII keys, so that orjson's sorted form of them is canonical.
    """

    values: Mapping[str, object]
    view: Mapping[str, object]
    counted: Mapping[str, object]
    supplied: Collection[str]
    opaque: Collection[str]
    plain: bool

    def canonical(self) -> bytes:
        """Return the canonical bytes (RFC 8785) of the arguments that are not opaque."""
        values = self.counted
        if self.opaque:
            values = {name: value for name, value in values.items() if name not in self.opaque}
        if self.plain:
            return orjson.dumps(values, option=orjson.OPT_SORT_KEYS)
        return canonical.encode(_encodable(values))

    def parts(self) -> list[bytes]:
        """Return the committed bytes of each argument that is not opaque, sorted by name."""
        values = self.counted
        names = sorted(name for name in values if name not in self.opaque)
        if self.plain:
            return [orjson.dumps([name, values[name]], option=orjson.OPT_SORT_KEYS) for name in names]
        return [part(name, _encodable(values[name])) for name in names]

    def kinds(self) -> tuple[str, ...]:
        """Return ``name:kind`` for each argument, sorted; records hold this instead of values."""
        return tuple(sorted([f"{name}:{_KINDS.get(type(value), 'opaque')}" for name, value in self.view.items()]))


def _encodable(value: object) -> JSON:
    """Return the JSON with plain text for the forms of decimals, which only orjson encodes as text."""
    plain: JSON = orjson.loads(orjson.dumps(value))
    return plain


_KINDS: Final[Mapping[type, str]] = MappingProxyType(
    {
        str: "string",
        bool: "boolean",
        int: "number",
        float: "number",
        type(None): "null",
        list: "array",
        tuple: "array",
        dict: "object",
        DecimalText: "number",
    }
)


def capture(
    values: Mapping[str, object], supplied: Collection[str], injected: Collection[str] = _NO_OPAQUE
) -> Arguments:
    """Copy and check the arguments of one call.

    Args:
        values: Arguments by name, defaults applied.
        supplied: The names that the caller supplied.
        injected: Names that the framework filled in; passed by reference and opaque.

    Raises:
        BadArgumentsError: An argument holds NaN, an infinity, an integer beyond 64 bits, a decimal of more than
            1,000 digits or a lone surrogate, is nested deeper than 64, refers to itself, or is too large; there are
            more than 256 arguments, or an argument name does not have 1 to 128 visible characters.
    """
    if len(values) > MAX_ARGUMENTS:
        raise BadArgumentsError(None, f"{len(values)} arguments are too many; pass at most {MAX_ARGUMENTS}")
    copier: _Copier | None = None
    copied: dict[str, object] = {}
    opaque: list[str] = []
    plain, text = True, 0
    for name, value in values.items():
        if type(name) is not str or name not in _SOUND:
            plain = _is_sound(name) and plain
        copied[name] = value
        if value is None or type(value) is bool:
            continue
        if injected and name in injected:
            opaque.append(name)
        # Most values are texts and numbers, so they skip the function call.
        elif type(value) is str and value.isascii() and text + len(value) <= MAX_TEXT:
            text += len(value)
        elif type(value) is not int or not _MIN_INT <= value <= _MAX_INT:
            copier = copier or _Copier()
            copier.text = text
            try:
                copied[name] = copier.argument(name, value)
            except NoFormError:
                opaque.append(name)
            text = copier.text
    if copier is None and not opaque:
        return Arguments(copied, copied, copied, supplied, _NO_OPAQUE, plain)
    return _with_forms(copied, supplied, opaque, copier or _Copier(), plain=plain)


def _with_forms(
    copied: dict[str, object], supplied: Collection[str], opaque: list[str], copier: "_Copier", *, plain: bool
) -> Arguments:
    """Return the arguments of a call of which some have forms, or are opaque."""
    forms, plain = copier.forms, plain and copier.plain
    if not forms and not opaque:
        return Arguments(copied, copied, copied, supplied, _NO_OPAQUE, plain)
    # A separate copy of the forms, because an inspector may change its own.
    view = {**copied, **{name: _form(single) for name, single in forms.items()}, **dict.fromkeys(opaque, OPAQUE)}
    return Arguments(copied, view, {**copied, **forms}, supplied, opaque or _NO_OPAQUE, plain)


def _is_sound(name: object) -> bool:
    """Return whether a name is ASCII; refuse one that is unfit for records and messages.

    A model may choose the names of ``**kwargs``.

    Raises:
        BadArgumentsError: The name does not have 1 to 128 visible characters.
    """
    if type(name) is not str or not name.isprintable() or not 0 < len(name) <= MAX_NAME:
        raise BadArgumentsError(None, f"an argument name is malformed; use 1 to {MAX_NAME} visible characters")
    if not name.isascii():
        return False
    if len(_SOUND) >= _MAX_SOUND:
        _SOUND.clear()
    _SOUND.add(name)
    return True


@final
class _Copier:
    __slots__ = ("formed", "forms", "json", "nodes", "plain", "text")

    def __init__(self, *, json: bool = False) -> None:
        self.json = json
        self.nodes = 0
        self.text = 0
        self.plain = True
        self.formed = False
        self.forms: dict[str, object] = {}

    def argument(self, name: str, value: object) -> object:
        self.formed = False
        try:
            copied = self.copy(value, 0)
        except ValueError as error:
            raise BadArgumentsError(name, str(error)) from None
        if self.formed:
            self.forms[name] = _form(copied)
        return copied

    def copy(self, value: object, depth: int) -> object:
        if type(value) is str:
            self._check_text(value)
        elif type(value) is int:
            if not _MIN_INT <= value <= _MAX_INT:
                raise ValueError("an integer has more than 64 bits; pass it as text")
        elif type(value) is float:
            if not math.isfinite(value):
                raise ValueError("a number is NaN or infinite; pass a finite one")
            self.plain = self.plain and canonical.is_plain_number(value)
        elif value is not None and type(value) is not bool:
            return self._container(value, depth)
        return value

    def _check_text(self, value: str) -> None:
        self._count_text(len(value))
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("a text has a lone surrogate; pass valid Unicode") from None

    def _container(self, value: object, depth: int) -> object:
        if depth >= canonical.MAX_DEPTH:
            raise ValueError(f"containers are nested more than {canonical.MAX_DEPTH} deep, or in a cycle; flatten them")
        if is_plain_dict(value):
            return self._mapping(value, depth + 1)
        if is_plain_array(value):
            self._count(len(value))
            # A snapshot: another thread may be appending to the list.
            copied = [self.copy(item, depth + 1) for item in tuple(value)]
            return copied if type(value) is list else tuple(copied)
        if self.json:
            raise NoFormError
        self.formed = True
        try:
            self.copy(_texts(form_of(value)), depth)  # Forms are checked like plain JSON.
        except NoFormError:
            held = _taken(value)
            return _rebuilt(held, self._mapping(held.fields, depth + 1))
        return value

    def _mapping(self, value: Mapping[Any, object], depth: int) -> dict[str, object]:
        self._count(len(value))
        copied: dict[str, object] = {}
        text = 0
        for key, item in list(value.items()):
            if type(key) is not str:
                raise NoFormError
            if key.isascii():
                text += len(key)
            else:
                self._check_text(key)
                self.plain = False
            # Most values are texts, so they skip the function call.
            if type(item) is str and item.isascii():
                text += len(item)
                copied[key] = item
            else:
                copied[key] = self.copy(item, depth)
        self._count_text(text)
        return copied

    def _count_text(self, more: int) -> None:
        self.text += more
        if self.text > MAX_TEXT:
            raise ValueError(f"the arguments have more than {MAX_TEXT} characters; pass a reference instead")

    def _count(self, more: int) -> None:
        self.nodes += more
        if self.nodes > MAX_NODES:
            raise ValueError(f"the arguments have more than {MAX_NODES} values; pass a reference instead")


def _texts(single: object) -> object:
    """Return the form of a scalar, with plain text for decimals."""
    if is_plain_array(single):  # A tuple: no form is a list.
        return tuple(_texts(item) for item in single)
    return str(single) if type(single) is DecimalText else single


def canonical_bytes(value: object) -> bytes | None:
    """Return the canonical bytes of a result, or ``None`` if it is not JSON-like or too large."""
    if type(value) is str and value.isascii() and len(value) <= MAX_TEXT:
        return orjson.dumps(value)
    copier = _Copier(json=True)
    try:
        copied = copier.copy(value, 0)
    except (NoFormError, ValueError, RuntimeError):
        return None
    if copier.plain:
        return orjson.dumps(copied, option=orjson.OPT_SORT_KEYS)
    return canonical.encode(copied)


def plain_copy(value: object) -> object:
    """Return a copy of a result as plain JSON, or ``None`` if it is not JSON-like or too large."""
    try:
        return _Copier(json=True).copy(value, 0)
    except (NoFormError, ValueError, RuntimeError):
        return None


def form_bytes(value: object) -> bytes | None:
    """Return the canonical bytes of an argument's form, or ``None`` if it has none or is too large."""
    try:
        arguments = capture({"value": value}, ())
    except (BadArgumentsError, RuntimeError):
        return None
    return None if arguments.opaque else arguments.canonical()


@final
class Binder:
    """Binds the arguments of a call to the parameters of one function.

    A leading ``self`` or ``cls`` of a method is the receiver: it is passed through and is no argument.
    Names of ``**kwargs`` are arguments of their own.

    Args:
        function: The function that provides the signature.
        method: The first parameter is the receiver, whatever its name.

    Attributes:
        signature: The signature of the function.
        simple: True if all its arguments can be passed by name.
        parameters: The possible names of arguments; ``None`` if any name is allowed.
    """

    __slots__ = (
        "_called",
        "_defaults",
        "_names",
        "_receiver",
        "_required",
        "_variable",
        "parameters",
        "signature",
        "simple",
    )

    def __init__(self, function: Callable[..., object], *, method: bool = False) -> None:
        self.signature = inspect.signature(function)
        self._called = getattr(function, "__qualname__", type(function).__name__)
        self._receiver = next(iter(self.signature.parameters)) if method else _receiver(function, self.signature)
        parameters = list(self.signature.parameters.values())
        plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        positional = [p for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        self.simple = all(p.kind in plain for p in parameters) and self._receiver is None
        self._names = tuple(p.name for p in positional)
        self._defaults = {p.name: p.default for p in parameters}
        self._required = frozenset(p.name for p in parameters if p.default is inspect.Parameter.empty)
        self._variable = next((p.name for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD), None)
        named = tuple(p.name for p in parameters if p.name != self._receiver)
        self.parameters = named if self._variable is None else None

    def bind(
        self, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> tuple[Mapping[str, object], Collection[str]]:
        """Return the arguments by name, with defaults, and the names that the caller supplied.

        Raises:
            TypeError: The function does not accept these arguments, two arguments would have one name, or the receiver
                comes by keyword.
        """
        if self.simple and len(args) <= len(self._names):
            supplied = {**dict(zip(self._names, args, strict=False)), **kwargs} if args else kwargs
            # No duplicate, unknown or missing name.
            if len(supplied) == len(args) + len(kwargs) and self._required <= supplied.keys() <= self._defaults.keys():
                return {**self._defaults, **supplied}, tuple(supplied)
        return self._bind_slowly(args, kwargs)

    def _bind_slowly(
        self, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> tuple[Mapping[str, object], Collection[str]]:
        if self._receiver is not None and not args:
            raise TypeError(
                f"the first positional argument {self._receiver!r} is missing; call the method on its object"
            )
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self._called}() {error}") from None
        # In the order of the signature, so that refusals name the same argument each time.
        supplied = dict.fromkeys(bound.arguments)
        bound.apply_defaults()
        values = dict(bound.arguments)
        if self._receiver is not None:
            del values[self._receiver]
            del supplied[self._receiver]
        if self._variable is not None:
            extra: dict[str, object] = values.pop(self._variable)
            supplied.pop(self._variable, None)
            if not values.keys().isdisjoint(extra):
                raise TypeError("a keyword argument has the name of a positional-only parameter; rename one of them")
            values.update(extra)
            supplied.update(dict.fromkeys(extra))
        return values, tuple(supplied)

    def spread(
        self, values: Mapping[str, object], args: tuple[object, ...]
    ) -> tuple[tuple[object, ...], Mapping[str, object]]:
        """Return the positional and keyword arguments for the function.

        Args:
            values: Checked values by name.
            args: The positional arguments of the call; only a receiver is taken from them.
        """
        if self.simple:
            return (), values
        positional: list[object] = []
        keywords = dict(values)
        for parameter in self.signature.parameters.values():
            if parameter.name == self._receiver:
                positional.append(args[0])
            elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                rest = keywords.pop(parameter.name)
                positional.extend(rest if is_array(rest) else (rest,))
            elif parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
                positional.append(keywords.pop(parameter.name))
        return tuple(positional), keywords


def _receiver(function: Callable[..., object], signature: inspect.Signature) -> str | None:
    first = next(iter(signature.parameters), None)
    owner = getattr(function, "__qualname__", "").rpartition(".")[0]
    in_class = bool(owner) and not owner.endswith("<locals>")
    return first if in_class and first in ("self", "cls") and not inspect.ismethod(function) else None


_Key = TypeVar("_Key")

_FIELDS_SET: Final = "__pydantic_fields_set__"
_EMPTY: Final = ("__pydantic_extra__", "__pydantic_private__")
"""Names of model state besides the fields: the set of supplied fields; and members that hide something."""

_NO_SCHEMA: Final = frozenset({"default", "expected", "metadata"})
"""Schema keys whose values are data and functions, not schemas."""

_OWN_WAYS: Final = frozenset({"__new__", "__getattribute__", "__del__"})
"""Methods of a class that customize creation, access or destruction, or have state invisible to Python."""

_SCALARS: Final = frozenset({str, bool, int, float, type(None), DecimalText})


class _Shape(NamedTuple):
    """Storage of an object's state, by class."""

    defaults: Mapping[str, object]
    """The fields, with the class-level values of objects without an own value."""

    slots: Sequence[MemberDescriptorType]
    has_dict: bool


class _Taken(NamedTuple):
    """The state read from an object, once: its fields, and the rest that a copy needs."""

    kind: type[object]
    fields: Mapping[str, object]
    rest: Mapping[str, object]


_SHAPES: Final[WeakKeyDictionary[type, _Shape | None]] = WeakKeyDictionary()


def _taken(value: object) -> _Taken:
    """Return the fields of a dataclass or model by name, ignoring its own accessors.

    Raises:
        NoFormError: The object is neither, hides something, or has more state than its fields.
    """
    kind = type(value)
    if not (issubclass(kind, models()) or dataclasses.is_dataclass(kind)):
        raise NoFormError
    if kind not in _SHAPES:
        _SHAPES[kind] = _shape_of(kind)
    shape = _SHAPES[kind]
    if shape is None:
        raise NoFormError
    state = _state(value, shape)
    fields = {name: state.pop(name, default) for name, default in shape.defaults.items()}
    state.pop("__orig_class__", None)  # Left by `Box[int](1)`.
    rest = _rest(state) if issubclass(kind, models()) else {}
    if state or any(field is dataclasses.MISSING for field in fields.values()):
        raise NoFormError
    return _Taken(kind, fields, rest)


def _state(value: object, shape: _Shape) -> dict[str, object]:
    """Return the whole state of an object, from its ``__dict__`` and slots; ``__getattr__`` does not run."""
    held: object = object.__getattribute__(value, "__dict__") if shape.has_dict else {}
    if not is_plain_dict(held) or not is_object(held):
        raise NoFormError
    state = dict(held)
    for slot in shape.slots:
        with suppress(AttributeError):  # The slot is empty.
            item: object = slot.__get__(value)
            if slot.__name__ in state:
                raise NoFormError  # Two slots, or a slot and an attribute, only one of which is visible.
            state[slot.__name__] = item
    if any(type(name) is not str for name in state):
        raise NoFormError
    return state


def _rest(state: dict[str, object]) -> dict[str, object]:
    """Remove pydantic's own state from the state of a model, and return a copy of it."""
    rest: dict[str, object] = {name: state.pop(name) for name in (*_EMPTY, _FIELDS_SET) if name in state}
    for name in _EMPTY:
        hidden = rest.get(name)
        if hidden is None:
            continue
        if type(hidden) is not dict or hidden:
            raise NoFormError
        rest[name] = {}
    fields_set = rest.get(_FIELDS_SET)
    if not _is_set(fields_set):
        raise NoFormError
    rest[_FIELDS_SET] = names = set(fields_set)
    if any(type(name) is not str for name in names):
        raise NoFormError
    return rest


def _is_set(value: object) -> TypeGuard[set[object]]:
    return type(value) is set


def _shape_of(kind: type[object]) -> _Shape | None:
    """Return the shape of a class, or None if its objects hide something, or differ by identity alone."""
    if issubclass(kind, models()):
        names = list(kind.model_fields)
    else:
        names = [field.name for field in dataclasses.fields(cast("Any", kind))]
    fields = {name: inspect.getattr_static(kind, name, dataclasses.MISSING) for name in names}
    slotted = {name: dataclasses.MISSING for name, item in fields.items() if type(item) is MemberDescriptorType}
    defaults: dict[str, object] = {**fields, **slotted}
    members = [(name, item) for base in kind.__mro__[:-1] for name, item in vars(base).items()]
    # Without fields, only identity distinguishes objects.
    if not names or any(map(inspect.isdatadescriptor, defaults.values())) or _has_own_way(members) or _is_masked(kind):
        return None
    slots = [item for _, item in members if type(item) is MemberDescriptorType]
    return _Shape(defaults, slots, any(name == "__dict__" for name, _ in members))


def _has_own_way(members: Sequence[tuple[str, object]]) -> bool:
    return any(
        name in _OWN_WAYS or (name == "__dict__" and type(member) is not GetSetDescriptorType)
        for name, member in members
    )


def _is_masked(kind: type[object]) -> bool:
    """Return whether pydantic excludes a field, or serializes it with code of the class."""
    if not issubclass(kind, models()) and "pydantic.dataclasses" not in sys.modules:
        return False
    from pydantic import TypeAdapter  # noqa: PLC0415  Few values are models.
    from pydantic.dataclasses import is_pydantic_dataclass  # noqa: PLC0415

    if not (issubclass(kind, models()) or is_pydantic_dataclass(kind)):
        return False
    adapter: TypeAdapter[object] = TypeAdapter(kind)
    schema: object = adapter.core_schema
    # A class with an unresolved forward reference has no readable schema.
    return not is_dict(schema) or any(map(_masks, _nodes(schema)))


def _masks(node: Mapping[object, object]) -> bool:
    if node.get("serialization_exclude") or node.get("serialization_exclude_if"):
        return True
    serialization = node.get("serialization")
    if not is_dict(serialization):
        return False
    function = serialization.get("function")
    # pydantic has such functions for its own and the standard library's types.
    return function is not None and not str(getattr(function, "__module__", "")).startswith("pydantic.")


def _nodes(schema: object) -> Iterator[Mapping[object, object]]:
    """Yield every mapping of a schema."""
    waiting, visited = [schema], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if is_dict(node):
            yield node
            waiting += [item for name, item in node.items() if name not in _NO_SCHEMA]
        elif is_array(node):
            waiting += node


def _rebuilt(held: _Taken, fields: Mapping[str, object]) -> object:
    """Rebuild an object from the read state, with copies of its fields; none of its code runs."""
    made: object = object.__new__(held.kind)
    for name, item in (*fields.items(), *held.rest.items()):
        object.__setattr__(made, name, item)
    return made


def _form(value: object) -> object:
    """Return the judged, digested and shown form of a copy: plain JSON, with decimals as text."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if is_plain_dict(value):
        return _forms(value)
    if is_plain_array(value):
        items = [_form(item) for item in value]
        return items if kind is list else tuple(items)
    try:
        return form_of(value)
    except NoFormError:
        fields = _forms(_taken(value).fields)
    return fields["root"] if is_root_model(kind) else fields


def _forms(members: Mapping[_Key, object]) -> dict[_Key, object]:
    return {name: _form(item) for name, item in members.items()}
