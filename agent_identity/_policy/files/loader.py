"""Policy files: read completely, checked completely, or not loaded at all.

Each reader keeps source positions, which the standard parsers lose; that of JSON also accepts NaN. Of TOML, lines tell
them.
"""

import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path as FilePath
from typing import Final, NoReturn, final

from agent_identity._common.narrowing import is_list, is_object, is_plain_dict
from agent_identity._identity.common.encoding import digest_of
from agent_identity._identity.common.private_files import check_path
from agent_identity._policy.decision.decision import Effect
from agent_identity._policy.decision.obligations import parse_obligations
from agent_identity._policy.decision.patterns import check_patterns, has_wildcard
from agent_identity._policy.decision.places import (
    MAX_DEPTH,
    Document,
    Gathering,
    Malformed,
    Mark,
    Path,
    Problem,
    each,
    quoted,
    words,
)
from agent_identity._policy.language.conditions import Condition, parse_condition
from agent_identity._policy.language.labels import ToolFacts, parse_tools
from agent_identity._policy.rules.program import Origin, PolicySource
from agent_identity._policy.rules.review import warnings_about
from agent_identity._policy.rules.rule import (
    Rule,
    check_obligations,
    check_route,
    located_name,
    located_why,
    unique_ids,
)
from agent_identity.errors import ConfigurationError, PolicyFormatError

_MAX_SIZE: Final = 1024 * 1024
_MAX_RULES: Final = 10_000
_MAX_SHOWN: Final = 20
_POLICY_KEYS: Final = ("default", "name", "rules", "tools", "version")
_DEFAULTS: Final = (Effect.ALLOW, Effect.BLOCK)
_RULE_KEYS: Final = ("effect", "id", "obligations", "reason", "to", "tools", "when")

_SPACE: Final = " \t\n\r"

_NAME: Final = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED: Final = rf"{_NAME}(?:[ \t]*\.[ \t]*{_NAME})*"
_HEADER: Final = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_DOTTED})[ \t]*\]")
_ENTRY: Final = re.compile(rf"[ \t]*({_DOTTED})[ \t]*=[ \t]*")
_PART: Final = re.compile(_NAME)
# A key begins only right after these, so the scan reads each part of a text once.
_DEEP: Final = re.compile(rf"(?:^|[\[{{,])[ \t]*(?:{_NAME}[ \t]*\.[ \t]*){{{MAX_DEPTH}}}", re.MULTILINE)
_PLACE: Final = re.compile(r" \(at line (\d+), column (\d+)\)$")


def read_policy(path: str | os.PathLike[str], tools: Collection[str] | None) -> PolicySource:
    """Read a policy file.

    Args:
        path: A ``.yaml``, ``.yml``, ``.json`` or ``.toml`` file.
        tools: The names of all tools, or ``None`` if unknown.

    Raises:
        PolicyFormatError: The file has mistakes.
        ConfigurationError: The file cannot be read, or PyYAML is not installed for a YAML file.
    """
    check_path(path)
    file = FilePath(path)
    read = _reader(file)
    data = _bytes(file)
    try:
        document = read(_text(data))
    except Malformed as malformed:
        raise _complaint(file, [(malformed.mark, str(malformed))]) from None
    try:
        source = _policy(document.value, tools, digest_of(data))
    except Problem as problem:
        raise _complaint(file, [(document.locate(one), str(one)) for one in problem.all]) from None
    return replace(source, warnings=tuple(_warnings(file, document, source)))


def _complaint(file: FilePath, located: Sequence[tuple[Mark, str]]) -> PolicyFormatError:
    """Return one error about all mistakes in a file."""
    problems = tuple(
        PolicyFormatError(f"{file}:{line}:{column}: {message}", line=line, column=column)
        for (line, column), message in sorted(located)
    )
    lines = [str(problem) for problem in problems[:_MAX_SHOWN]]
    if len(problems) > _MAX_SHOWN:
        lines.append(f"and {len(problems) - _MAX_SHOWN} more mistakes")
    first = problems[0]
    return PolicyFormatError("\n".join(lines), line=first.line, column=first.column, problems=problems)


def _warnings(file: FilePath, document: Document, source: PolicySource) -> Iterator[str]:
    for index, warning in warnings_about(source.rules, source.tools):
        line, column = document.locate(Problem("", ("rules", index, "when")))
        yield f"{file}:{line}:{column}: {warning}"


def _reader(file: FilePath) -> Callable[[str], Document]:
    readers = {".json": read_json, ".toml": read_toml, ".yaml": _read_yaml, ".yml": _read_yaml}
    if file.suffix not in readers:
        raise ConfigurationError(f"{str(file)!r} is no policy file; use a name that ends in {words(readers)}")
    return readers[file.suffix]


def _read_yaml(text: str) -> Document:
    try:
        from agent_identity._policy.files._yaml_reader import read_yaml  # noqa: PLC0415 - PyYAML is an extra.
    except ModuleNotFoundError:
        raise ConfigurationError(
            "PyYAML is not installed; run pip install '.[yaml]' in the checkout, or write the policy in JSON or TOML"
        ) from None
    return read_yaml(text)


def _bytes(file: FilePath) -> bytes:
    try:
        data = _head(file) if file.is_file() else None
    except OSError as error:
        raise ConfigurationError(f"cannot read the policy file {str(file)!r}: {error.strerror}") from None
    if data is None:
        raise ConfigurationError(f"no policy file at {str(file)!r}; check the path, or create it")
    if len(data) > _MAX_SIZE:
        raise ConfigurationError(f"the policy file {str(file)!r} is larger than {_MAX_SIZE} bytes; shorten it")
    return data


def _head(file: FilePath) -> bytes:
    with file.open("rb") as stream:
        return stream.read(_MAX_SIZE + 1)


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        line = before.count("\n") + 1
        raise Malformed(
            "the text is not UTF-8; save the file as UTF-8", (line, len(before) - before.rfind("\n"))
        ) from None


def _policy(value: object, tools: Collection[str] | None, digest: str) -> PolicySource:
    members, gathering = _members(value, (), "the policy", _POLICY_KEYS), Gathering()
    gathering.take(lambda: _check_keys(members, (), "the policy", _POLICY_KEYS), None)
    name = gathering.take(lambda: located_name(members.get("name", "policy"), ("name",)), "")
    version = gathering.take(lambda: _version(members.get("version", "1")), "")
    default = gathering.take(lambda: _effect(members.get("default", "allow"), ("default",), _DEFAULTS), Effect.BLOCK)
    facts = gathering.take(lambda: _facts(members.get("tools", {}), tools), ())
    rules = gathering.take(lambda: _rules(members, default, tools), ())
    gathering.end()
    return PolicySource(rules, default, Origin(name, version, digest), facts, ())


def _rules(members: Mapping[str, object], default: Effect, tools: Collection[str] | None) -> tuple[Rule, ...]:
    if "rules" not in members:
        _refuse_missing("rules", members, (), "the policy", _POLICY_KEYS)
        return ()
    listed = members["rules"]
    items = listed if is_list(listed) else None
    if items is None:
        raise Problem("rules is no list; write a list of rules", ("rules",))
    if not items and default is Effect.ALLOW:
        raise Problem("rules is empty and would allow everything; add a rule, or set default: block", ("rules",))
    if len(items) > _MAX_RULES:
        raise Problem(f"the policy has {len(items)} rules; use at most {_MAX_RULES}", ("rules",))
    gathering = Gathering()
    makers = (partial(_rule, item, ("rules", index), tools) for index, item in enumerate(items))
    rules = gathering.take(lambda: each(makers), ())
    gathering.take(lambda: unique_ids([_id_of(item) for item in items]), ())
    gathering.end()
    return tuple(rules)


def _id_of(item: object) -> str | None:
    """Return the id of a rule; ``None`` for a malformed one, which is a mistake of that rule."""
    own = item.get("id") if is_plain_dict(item) else None
    return own if type(own) is str else None


def _facts(value: object, tools: Collection[str] | None) -> tuple[ToolFacts, ...]:
    facts = parse_tools(value, ("tools",))
    each(partial(_check_known, of.pattern, tools, ("tools", of.pattern), at_key=True) for of in facts)
    return facts


def _version(value: object) -> str:
    if type(value) is not str:
        raise Problem('version is no string; put it in quotes, such as "3"', ("version",))
    return located_name(value, ("version",))


def _rule(value: object, path: Path, tools: Collection[str] | None) -> Rule:
    members, gathering = _members(value, path, "a rule", _RULE_KEYS), Gathering()
    gathering.take(lambda: _check_keys(members, path, "a rule", _RULE_KEYS), None)
    effect = gathering.take(lambda: _rule_effect(members, path), Effect.BLOCK)
    route = None
    if effect is Effect.ROUTE:
        route = gathering.take(lambda: check_route(effect, members["to"], (*path, "to")), None)
    patterns = gathering.take(lambda: _patterns(members, (*path, "tools"), tools), ())
    reason = gathering.take(lambda: located_why(members.get("reason", ""), (*path, "reason")), "")
    own = gathering.take(lambda: located_name(members["id"], (*path, "id")) if "id" in members else None, None)
    when = gathering.take(lambda: _condition(members, (*path, "when")), None)
    owed = gathering.take(lambda: parse_obligations(members.get("obligations", ()), (*path, "obligations")), ())
    gathering.end()
    check_obligations(effect, when, owed, (*path, "obligations"))
    return Rule(effect, tools=patterns, when=when, reason=reason, id=own, to=route, obligations=owed)


def _condition(members: Mapping[str, object], path: Path) -> Condition | None:
    return parse_condition(members["when"], path) if "when" in members else None


def _rule_effect(members: Mapping[str, object], path: Path) -> Effect:
    if "effect" not in members:
        _refuse_missing("effect", members, path, "the rule", _RULE_KEYS)
        return Effect.BLOCK
    effect = _effect(members["effect"], (*path, "effect"), tuple(Effect))
    if (effect is Effect.ROUTE) is not ("to" in members):
        problem = (
            "the rule routes, and 'to' is missing; name"
            if effect is Effect.ROUTE
            else "the rule has 'to'; leave it out, or name"
        )
        raise Problem(f"{problem} a target with the effect route", path)
    return effect


def _patterns(members: Mapping[str, object], path: Path, tools: Collection[str] | None) -> tuple[str, ...]:
    value = members.get("tools", "*")
    patterns = check_patterns(value, path)
    ways = [path] if type(value) is str else [(*path, index) for index in range(len(patterns))]
    each(partial(_check_known, pattern, tools, way) for pattern, way in zip(patterns, ways, strict=True))
    return patterns


def _check_known(pattern: str, tools: Collection[str] | None, path: Path, *, at_key: bool = False) -> None:
    if tools is not None and not has_wildcard(pattern) and pattern not in tools:
        raise Problem(f"unknown tool {quoted(pattern)}; name a tool of the inventory", path, at_key=at_key)


def _members(value: object, path: Path, what: str, known: Sequence[str]) -> Mapping[str, object]:
    if not is_object(value):
        raise Problem(f"{what} is no mapping; write one with the keys {words(known)}", path)
    return value


def _check_keys(members: Mapping[str, object], path: Path, what: str, known: Sequence[str]) -> None:
    each(partial(_check_key, key, (*path, key), what, known) for key in members)


def _check_key(key: str, path: Path, what: str, known: Sequence[str]) -> None:
    if key not in known:
        raise Problem(f"unknown key {quoted(key)} in {what}; use one of {words(known)}", path, at_key=True)


def _refuse_missing(key: str, members: Mapping[str, object], path: Path, what: str, known: Sequence[str]) -> None:
    """Refuse a missing key, unless another key is unknown: then the unknown key is the mistake, and is refused."""
    if all(name in known for name in members):
        raise Problem(f"the key {key!r} is missing in {what}; add it", path)


def _effect(value: object, path: Path, known: Sequence[Effect]) -> Effect:
    for effect in known:
        if value == effect.value:
            return effect
    got = f"unknown effect {quoted(value)}" if type(value) is str else "the effect is no string"
    raise Problem(f"{got}; use one of {words(effect.value for effect in known)}", path)


def read_json(text: str) -> Document:
    """Return the value of a JSON text (RFC 8259), with the positions of its parts.

    Raises:
        Malformed: The text is not JSON, has a duplicate key, a number beyond every double, or is nested
            too deeply.
    """
    reader = _Reader(text)
    reader.document.value = reader.value(())
    reader.end()
    return reader.document


class _NotFinite(Exception):
    """A number of JSON text is NaN, an infinity, or beyond every double."""


def _refuse_constant(name: str) -> NoReturn:
    raise _NotFinite(f"{name} is not a finite number; write one, or a string")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _NotFinite("a number is beyond every double; write a smaller one, or a string")
    return value


_DECODER: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)


@final
class _Reader:
    """One pass over a text."""

    def __init__(self, text: str) -> None:
        self.document = Document()
        self._text = text
        self._at = 0
        self._line = 1
        self._line_start = 0
        self._counted = 0

    def value(self, path: Path) -> object:
        sign = self._peek()
        self.document.values[path] = self._mark()
        if sign not in "{[":
            return self._scalar()
        if len(path) > MAX_DEPTH:
            raise self._wrong(f"values are nested more than {MAX_DEPTH} levels deep; flatten them")
        self._at += 1
        return self._object(path) if sign == "{" else self._array(path)

    def end(self) -> None:
        if self._peek(at_end=True):
            raise self._wrong("text follows the policy; remove it")

    def _object(self, path: Path) -> dict[str, object]:
        members: dict[str, object] = {}
        closed = self._peek() == "}"
        while not closed:
            if self._peek() != '"':
                raise self._wrong("no key in double quotes here; write one")
            mark = self._mark()
            key = str(self._scalar())
            if key in members:
                raise Malformed(f"duplicate key {quoted(key)}", mark)
            self.document.keys[*path, key] = mark
            self._expect(":")
            members[key] = self.value((*path, key))
            closed = self._closes("}")
        self._at += 1
        return members

    def _array(self, path: Path) -> list[object]:
        items: list[object] = []
        closed = self._peek() == "]"
        while not closed:
            items.append(self.value((*path, len(items))))
            closed = self._closes("]")
        self._at += 1
        return items

    def _closes(self, bracket: str) -> bool:
        sign = self._peek()
        if sign not in (",", bracket):
            raise self._wrong(f"no , or {bracket} here; write one")
        self._at += sign == ","
        return sign == bracket

    def _expect(self, sign: str) -> None:
        if self._peek() != sign:
            raise self._wrong(f"no {sign} here; write one")
        self._at += 1

    def _peek(self, *, at_end: bool = False) -> str:
        while self._at < len(self._text) and self._text[self._at] in _SPACE:
            self._at += 1
        if self._at == len(self._text) and not at_end:
            raise self._wrong("the file ends early; complete it")
        return self._text[self._at : self._at + 1]

    def _scalar(self) -> object:
        try:
            value, self._at = _DECODER.raw_decode(self._text, self._at)
        except json.JSONDecodeError as error:
            self._at = error.pos
            raise self._wrong(f"no JSON value here ({error.msg}); write one") from None
        except _NotFinite as error:
            raise self._wrong(str(error)) from None
        except ValueError:
            # The interpreter refuses integers of more than 4,300 digits.
            raise self._wrong("an integer has too many digits; write a shorter one, or a string") from None
        return value

    def _mark(self) -> Mark:
        # Lines are counted on from the last mark, so that marking every value stays linear.
        line_ends = self._text.count("\n", self._counted, self._at)
        if line_ends:
            self._line += line_ends
            self._line_start = self._text.rfind("\n", 0, self._at) + 1
        self._counted = self._at
        return (self._line, self._at - self._line_start + 1)

    def _wrong(self, message: str) -> Malformed:
        return Malformed(message, self._mark())


def read_toml(text: str) -> Document:
    """Return the value of a TOML text, with the positions of its tables and keys.

    A value inside an inline table or array has the position of the key before it.

    Raises:
        Malformed: The text is not TOML, or is nested too deeply.
    """
    import tomllib  # noqa: PLC0415  Few policies are files.

    document = Document()
    deep = _DEEP.search(text)
    if deep:  # The standard parser needs memory by the square of the length of a dotted key.
        before = text[: deep.start()]
        raise Malformed(
            "values are nested too deeply; flatten them", (before.count("\n") + 1, len(before) - before.rfind("\n"))
        )
    try:
        document.value = tomllib.loads(text)
    except RecursionError:
        raise Malformed("values are nested too deeply; flatten them", (1, 1)) from None
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = _PLACE.search(message)
        lines = text.split("\n")
        mark = (int(place[1]), int(place[2])) if place else (len(lines), len(lines[-1]) + 1)
        raise Malformed(f"not TOML: {_PLACE.sub('', message)}", mark) from None
    except ValueError:
        # The interpreter refuses integers of more than 4,300 digits.
        raise Malformed("an integer has too many digits; write a shorter one, or a string", (1, 1)) from None
    _place_lines(document, text)
    return document


def _place_lines(document: Document, text: str) -> None:
    table: Path = ()
    counts: dict[Path, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        header = _HEADER.match(line)
        if header:
            table = _table(_parts(header[2]), counts, array=header[1] == "[[")
            _note(document, table, (number, header.start(2) + 1), (number, header.start(1) + 1))
            continue
        entry = _ENTRY.match(line)
        if entry:
            path = (*table, *_parts(entry[1]))
            _note(document, path, (number, entry.start(1) + 1), (number, entry.end() + 1))


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in _PART.findall(dotted)]


def _table(parts: list[str], counts: dict[Path, int], *, array: bool) -> Path:
    """Return the path of a table; one in an array belongs to the newest item."""
    path: Path = ()
    for index, part in enumerate(parts):
        path = (*path, part)
        if array and index == len(parts) - 1:
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, counts[path] - 1)
    return path


def _note(document: Document, path: Path, key: Mark, value: Mark) -> None:
    for length in range(1, len(path) + 1):
        document.keys.setdefault(path[:length], key)
        document.values.setdefault(path[:length], value)
