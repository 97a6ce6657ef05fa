"""Policy files: read completely, checked completely, or not loaded at all."""

import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Final, cast, final

from agent_identity.errors import ConfigurationError, PolicyFormatError
from agent_identity.identity import check_path
from agent_identity.policy.conditions import parse_condition
from agent_identity.policy.decision import Effect
from agent_identity.policy.json_source import read_json
from agent_identity.policy.patterns import check_patterns, has_wildcard
from agent_identity.policy.program import Origin
from agent_identity.policy.rule import Rule, check_route, located_name, located_why, rule_ids
from agent_identity.policy.source import Document, Malformed, Mark, Path, Problem, quoted, words
from agent_identity.policy.toml_source import read_toml

__all__ = ["PolicySource", "read_policy"]

_MAX_SIZE: Final = 1024 * 1024
_MAX_RULES: Final = 10_000
_POLICY_KEYS: Final = ("default", "name", "rules", "version")
_RULE_KEYS: Final = ("effect", "id", "reason", "to", "tools", "when")


@final
@dataclass(frozen=True, slots=True)
class PolicySource:
    """What a policy file says.

    Attributes:
        rules: Its rules.
        default: The effect where none matches.
        origin: Its name, version and digest.
    """

    rules: tuple[Rule, ...]
    default: Effect
    origin: Origin


def read_policy(path: str | os.PathLike[str], tools: Collection[str] | None) -> PolicySource:
    """Return what a policy file says.

    Args:
        path: A ``.yaml``, ``.yml``, ``.json`` or ``.toml`` file.
        tools: The names of all tools, or ``None`` if they are not known.

    Raises:
        PolicyFormatError: The file has a mistake.
        ConfigurationError: The file cannot be read, or PyYAML is not installed for a YAML file.
    """
    check_path(path)
    file = FilePath(path)
    read = _reader(file)
    data = _bytes(file)
    try:
        document = read(_text(data))
    except Malformed as malformed:
        raise _complaint(file, str(malformed), malformed.mark) from None
    try:
        return _policy(document.value, tools, f"sha256:{hashlib.sha256(data).hexdigest()}")
    except Problem as problem:
        raise _complaint(file, str(problem), document.locate(problem)) from None


def _complaint(file: FilePath, message: str, mark: Mark) -> PolicyFormatError:
    line, column = mark
    return PolicyFormatError(f"{file}:{line}:{column}: {message}", line=line, column=column)


def _reader(file: FilePath) -> Callable[[str], Document]:
    readers = {".json": read_json, ".toml": read_toml, ".yaml": _read_yaml, ".yml": _read_yaml}
    if file.suffix not in readers:
        raise ConfigurationError(f"expected a policy file that ends in {words(readers)}; got {str(file)!r}")
    return readers[file.suffix]


def _read_yaml(text: str) -> Document:
    try:
        from agent_identity.policy.yaml_source import read_yaml  # noqa: PLC0415 - PyYAML is an extra.
    except ModuleNotFoundError:
        raise ConfigurationError(
            "expected PyYAML for a policy in YAML; pip install 'agent-identity-otel[yaml]', or write JSON or TOML"
        ) from None
    return read_yaml(text)


def _bytes(file: FilePath) -> bytes:
    try:
        data = _head(file) if file.is_file() else None
    except OSError as error:
        raise ConfigurationError(f"cannot read the policy file {str(file)!r}: {error.strerror}") from None
    if data is None:
        raise ConfigurationError(f"expected a policy file at {str(file)!r}, found none; without it nothing may run")
    if len(data) > _MAX_SIZE:
        raise ConfigurationError(f"expected a policy file of at most {_MAX_SIZE} bytes, {str(file)!r} is larger")
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
        raise Malformed("expected UTF-8 text", (line, len(before) - before.rfind("\n"))) from None


def _policy(value: object, tools: Collection[str] | None, digest: str) -> PolicySource:
    members = _members(value, (), _POLICY_KEYS, "the policy")
    if "rules" not in members:
        raise Problem("expected the key 'rules' in the policy")
    default = _effect(members.get("default", "allow"), ("default",), (Effect.ALLOW, Effect.BLOCK))
    origin = Origin(
        name=located_name(members.get("name", "policy"), ("name",)),
        version=_version(members.get("version", "1")),
        digest=digest,
    )
    listed = members["rules"]
    if type(listed) is not list:
        raise Problem("expected a list of rules", ("rules",))
    items = cast("list[object]", listed)
    if not items and default is Effect.ALLOW:
        raise Problem("expected at least one rule; a policy without any allows everything", ("rules",))
    if len(items) > _MAX_RULES:
        raise Problem(f"expected at most {_MAX_RULES} rules, got {len(items)}", ("rules",))
    rules = tuple(_rule(item, ("rules", index), tools) for index, item in enumerate(items))
    rule_ids(rules)
    return PolicySource(rules, default, origin)


def _version(value: object) -> str:
    if type(value) is not str:
        raise Problem('expected the version as a string; put it in quotes, such as "3"', ("version",))
    return located_name(value, ("version",))


def _rule(value: object, path: Path, tools: Collection[str] | None) -> Rule:
    members = _members(value, path, _RULE_KEYS, "a rule")
    if "effect" not in members:
        raise Problem("expected the key 'effect' in the rule", path)
    effect = _effect(members["effect"], (*path, "effect"), tuple(Effect))
    if (effect is Effect.ROUTE) is not ("to" in members):
        raise Problem("expected the key 'to' exactly in a rule with the effect route", path)
    patterns = check_patterns(members.get("tools", "*"), (*path, "tools"))
    _check_inventory(patterns, members.get("tools"), (*path, "tools"), tools)
    return Rule(
        effect,
        tools=patterns,
        when=parse_condition(members["when"], (*path, "when")) if "when" in members else None,
        reason=located_why(members.get("reason", ""), (*path, "reason")),
        id=located_name(members["id"], (*path, "id")) if "id" in members else None,
        route=check_route(effect, members.get("to"), (*path, "to")),
    )


def _check_inventory(patterns: Sequence[str], value: object, path: Path, tools: Collection[str] | None) -> None:
    for index, pattern in enumerate(patterns):
        if tools is not None and not has_wildcard(pattern) and pattern not in tools:
            way = path if type(value) is str else (*path, index)
            raise Problem(f"unknown tool {quoted(pattern)}; there is no such tool in the inventory", way)


def _members(value: object, path: Path, known: Sequence[str], what: str) -> Mapping[str, object]:
    if type(value) is not dict:
        raise Problem(f"expected {what} as a mapping with the keys {words(known)}", path)
    members = cast("dict[str, object]", value)
    for key in members:
        if key not in known:
            raise Problem(
                f"unknown key {quoted(key)} in {what}; expected one of {words(known)}", (*path, key), at_key=True
            )
    return members


def _effect(value: object, path: Path, known: Sequence[Effect]) -> Effect:
    for effect in known:
        if value == effect.value:
            return effect
    got = f"unknown effect {quoted(value)}" if type(value) is str else "no effect"
    raise Problem(f"{got}; expected one of {words(effect.value for effect in known)}", path)
