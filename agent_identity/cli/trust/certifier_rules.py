"""The file of a certifier, in TOML: the platforms whose tokens count, and what their workloads may be certified for."""

import ssl
import tomllib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, cast

from agent_identity._common.narrowing import is_array, is_object
from agent_identity._identity.common.private_files import read_trusted_file
from agent_identity._identity.foreign.jwks import KeysOfIssuer
from agent_identity._identity.foreign.jwks_source import JwksSource
from agent_identity._identity.foreign.spiffe import SpiffeBundle
from agent_identity._identity.trust.certificates import PrincipalKind
from agent_identity._identity.trust.certifier import OidcPlatform, Platform, Rule, SpiffePlatform
from agent_identity.cli.terminal.parsing import duration
from agent_identity.errors import ConfigurationError

_MAX_FILE: Final = 1 << 20
_MOST: Final = {"platform": 16, "rule": 1_024}
_PLATFORM: Final = frozenset({"spiffe", "oidc", "keys", "ca"})
_RULE: Final = frozenset({"platform", "subject", "origin", "issuer", "principals", "life"})


class Rules(NamedTuple):
    """The content of the file.

    Attributes:
        platforms: The platforms.
        rules: The rules.
    """

    platforms: tuple[Platform, ...]
    rules: tuple[Rule, ...]


def load_rules(path: str) -> Rules:
    """Return the content of a file.

    Raises:
        ConfigurationError: The file is unusable, everyone can write it, or it breaks a rule of the format.
    """
    try:
        content: Mapping[str, object] = tomllib.loads(read_trusted_file(path, limit=_MAX_FILE).decode("utf-8"))
    except ValueError as error:  # Also of the characters.
        raise ConfigurationError(f"{path}: no TOML: {str(error)[:200]}; correct it") from None
    if content.keys() != {"platform", "rule"}:
        raise ConfigurationError(f"{path}: give [[platform]] and [[rule]], at least one of each, and nothing else")
    platforms, rules = _tables(path, content, "platform"), _tables(path, content, "rule")
    return Rules(
        tuple(_platform(f"{path}: platform {number}", one) for number, one in enumerate(platforms, 1)),
        tuple(_rule(f"{path}: rule {number}", one) for number, one in enumerate(rules, 1)),
    )


def _tables(path: str, content: Mapping[str, object], name: str) -> Sequence[Mapping[str, object]]:
    tables = content[name]
    if not is_array(tables) or not 1 <= len(tables) <= _MOST[name] or not all(map(is_object, tables)):
        raise ConfigurationError(f"{path}: write each {name} as [[{name}]], at most {_MOST[name]} of them")
    return cast("Sequence[Mapping[str, object]]", tables)


def _texts(place: str, table: Mapping[str, object], known: frozenset[str]) -> dict[str, str]:
    unknown = sorted(table.keys() - known)
    if unknown:
        raise ConfigurationError(f"{place}: unknown member {unknown[0]!r}; use {', '.join(sorted(known))}")
    texts = {name: value for name, value in table.items() if isinstance(value, str)}
    wrong = sorted(table.keys() - texts.keys() - {"principals"})
    if wrong:
        raise ConfigurationError(f"{place}: {wrong[0]} is not a text; put it in quotes")
    return texts


def _platform(place: str, table: Mapping[str, object]) -> Platform:
    texts = _texts(place, table, _PLATFORM)
    try:
        if "spiffe" in texts and "oidc" not in texts and "keys" in texts:
            bundle = SpiffeBundle(texts["spiffe"], _keys(texts["keys"], texts.get("ca")))
            return SpiffePlatform(bundle)
        if "oidc" in texts and "spiffe" not in texts:
            issuer = texts["oidc"]
            context = _context(texts.get("ca"))
            named = texts.get("keys")
            keys = JwksSource.discover(issuer, context=context) if named is None else _keys(named, texts.get("ca"))
            return OidcPlatform(issuer, keys)
    except ValueError as error:
        raise ConfigurationError(f"{place}: {error}") from None
    raise ConfigurationError(
        f"{place}: give spiffe = 'TRUST DOMAIN' and keys, or oidc = 'ISSUER'; keys are a file or an https address"
    )


def _keys(text: str, authority: str | None) -> KeysOfIssuer:
    if text.partition(":")[0].lower() in ("http", "https"):
        return JwksSource(text, context=_context(authority))
    return text


def _context(authority: str | None) -> ssl.SSLContext | None:
    if authority is None:
        return None
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:  # Also of what is no certificate.
        raise ConfigurationError(
            f"the certificates of {authority!r} cannot be read: {error}; name a PEM file"
        ) from None


def _rule(place: str, table: Mapping[str, object]) -> Rule:
    texts = _texts(place, table, _RULE)
    missing = sorted({"platform", "subject", "origin", "issuer"} - texts.keys())
    if missing:
        raise ConfigurationError(f"{place}: {missing[0]} is missing; give a text")
    kinds = table.get("principals", ("human", "service"))
    named = {kind for kind in kinds if isinstance(kind, str)} if is_array(kinds) else set[str]()
    if not is_array(kinds) or len(named) != len(kinds) or not named or not named <= {"human", "service"}:
        raise ConfigurationError(f"{place}: principals is not a list of human and service; correct it")
    try:
        return Rule(
            platform=texts["platform"],
            subject=texts["subject"],
            origin=texts["origin"],
            issuer=texts["issuer"],
            principals=cast("tuple[PrincipalKind, ...]", tuple(sorted(named))),
            life=duration(texts.get("life", "1h")),
        )
    except ValueError as error:
        raise ConfigurationError(f"{place}: {error}") from None
