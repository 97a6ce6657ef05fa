"""MCP binding of delegated authority: the members of ``_meta``, and the request facts that a proof covers.

``params._meta`` holds the chain of grants with the proof for this request, as the draft on Attenuating Agent Tokens
writes a presentation in JSON, and optionally a grant to the server itself, under our names. The proof covers the name
of the server, the tool, and all parameters but ``_meta``.

Scopes, policies and records name a tool ``server/tool``, a prompt ``server:prompt/name``, reads of
resources ``server:resource`` and completions ``server:completion``. Requests of a server to its client are
``server:sampling``, ``server:elicitation`` and ``server:roots``. Server names cannot contain these marks, so all names
are distinct.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from pydantic import AnyUrl, ValidationError

from agent_identity.adapters import check_id, tool_name
from agent_identity.canonical import JSON
from agent_identity.delegation import Presentation
from agent_identity.errors import Denied, TokenError
from agent_identity.integrations.narrowing import is_mapping

__all__ = [
    "ASKED",
    "MARK",
    "MAX_META",
    "METHODS",
    "NEXT",
    "OURS",
    "PRESENTATION",
    "REFUSAL",
    "Target",
    "asked_by",
    "bound",
    "members",
    "normal_uri",
    "presentation_of",
    "prompt_name",
    "resource_name",
    "target_of",
    "to_meta",
]

PRESENTATION: Final = "io.agent-identity/delegation"
NEXT: Final = "io.agent-identity/delegation-next"
MARK: Final = "io.agent-identity/mark"
OURS: Final = (PRESENTATION, NEXT, MARK)
"""Our members of ``params._meta``."""

REFUSAL: Final = "io.agent-identity/refusal"
"""Our member of ``_meta`` in the result of a refused tool call: code and reference."""

METHODS: Final = frozenset({"tools/call", "resources/read", "prompts/get", "completion/complete"})
"""Guarded methods of requests to a server."""

ASKED: Final = {"sampling/createMessage": "sampling", "elicitation/create": "elicitation", "roots/list": "roots"}
"""Guarded methods of requests to the client, with the part of their name after the server."""

MAX_META: Final = 65_536
"""Maximum total length of the tokens in our members."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9_.-]+")


class Target(NamedTuple):
    """The target of a request.

    Attributes:
        name: Its name in scopes, policies and records.
        values: Its arguments by name.
        tool: The tool's own name at the server; ``None`` if it is no tool.
        trouble: The refusal if it cannot be judged: its name is unfit for records.
    """

    name: str
    values: Mapping[str, object]
    tool: str | None = None
    safe_message: Denied | None = None


def prompt_name(server: str, prompt: str) -> str:
    """Return the name of a server's prompt in scopes, policies and records."""
    return f"{server}:prompt/{prompt}"


def resource_name(server: str) -> str:
    """Return the name of reads of a server's resources in scopes, policies and records; its argument is ``uri``."""
    return f"{server}:resource"


def is_own_name(name: str) -> bool:
    """Return whether a tool can have this name at its server: with a slash it could pass for one of another server."""
    return "/" not in name


def target_of(server: str, method: str, params: Mapping[str, object]) -> Target | None:
    """Return the target of a request; ``None`` if its method is not guarded.

    Args:
        server: The name of the server.
        method: The method of the request.
        params: Its parameters as JSON.
    """
    if method not in METHODS:
        return None
    if method == "resources/read":
        return Target(resource_name(server), {"uri": params.get("uri")})
    if method == "completion/complete":
        return Target(f"{server}:completion", _completed(params))
    own, values = params.get("name"), members(params.get("arguments"))
    name = (tool_name if method == "tools/call" else prompt_name)(server, own if isinstance(own, str) else "")
    tool = own if method == "tools/call" and isinstance(own, str) else None
    try:
        check_id(name, "name")
        check_id(own, "name")
        named = tool is None or is_own_name(tool)
    except (TypeError, ValueError):
        named = False
    if not named:
        text = "the name of the tool or prompt is malformed; use 1 to 256 visible characters, and no slash for a tool"
        return Target(f"{server}:unnamed", values, tool, Denied(text, code="bad_arguments"))
    if "task" in params:
        text = f"{name}: the call would continue after its answer, without its task; call it without 'task'"
        return Target(name, values, tool, Denied(text, code="not_a_call"))
    return Target(name, values, tool)


def asked_by(server: str, method: str, params: Mapping[str, object]) -> Target:
    """Return the target of a server's request to its client.

    Args:
        server: The name of the server.
        method: One of :data:`ASKED`.
        params: Its parameters as JSON.
    """
    return Target(f"{server}:{ASKED[method]}", bound(params))


def _completed(params: Mapping[str, object]) -> dict[str, object]:
    """Return the facts of a completion: ``prompt`` or ``uri``, the argument, and its context."""
    of, argument, context = (members(params.get(name)) for name in ("ref", "argument", "context"))
    facts = {
        "prompt": of.get("name"),
        "uri": of.get("uri"),
        "argument": argument.get("name"),
        "value": argument.get("value"),
        "given": context.get("arguments"),
    }
    return {name: value for name, value in facts.items() if value is not None}


def members(value: object) -> Mapping[str, object]:
    """Return the members of a JSON object; none for other values."""
    return value if is_mapping(value) else {}


def bound(params: Mapping[str, object]) -> dict[str, object]:
    """Return the request facts that a proof covers: all parameters but ``_meta``."""
    return {name: value for name, value in params.items() if name != "_meta"}


def to_meta(presentation: Presentation) -> dict[str, JSON]:
    """Return the members for ``_meta``.

    Raises:
        TokenError: With code ``too_large``: the server would refuse them.
    """
    members: dict[str, JSON] = {PRESENTATION: presentation.to_object()}
    if presentation.onward is not None:
        members[NEXT] = presentation.onward
    if presentation.mark is not None:
        members[MARK] = presentation.mark
    size = _size(presentation)
    if size > MAX_META:
        raise TokenError(
            f"the authority in _meta has {size} characters, more than {MAX_META}; use a smaller scope",
            code="too_large",
        )
    return members


def presentation_of(meta: Mapping[str, object]) -> Presentation | None:
    """Return the presentation in ``_meta``; ``None`` without any of our members.

    Raises:
        TokenError: With code ``malformed_meta`` if a member is missing or malformed, ``too_large`` if they are too
            long together.
    """
    ours = {name: meta[name] for name in OURS if name in meta}
    if not ours:
        return None
    shown = ours.pop(PRESENTATION, None)
    texts = {name: value for name, value in ours.items() if isinstance(value, str)}
    if len(texts) != len(ours):
        raise _malformed()
    try:
        presentation = Presentation.from_object(shown, onward=texts.get(NEXT), mark=texts.get(MARK))
    except TokenError:
        raise _malformed() from None
    if _size(presentation) > MAX_META:
        raise TokenError(
            f"the authority in _meta has more than {MAX_META} characters; send fewer grants", code="too_large"
        )
    if not all(map(_TOKEN.fullmatch, _tokens(presentation))):
        raise _malformed()
    return presentation


def _tokens(presentation: Presentation) -> list[str]:
    beside = [token for token in (presentation.onward, presentation.mark) if token is not None]
    return [*presentation.tokens, presentation.proof, *beside]


def _size(presentation: Presentation) -> int:
    return sum(map(len, _tokens(presentation)))


def _malformed() -> TokenError:
    return TokenError("chain or proof in _meta is missing or malformed; send both", code="malformed_meta")


def normal_uri(uri: str) -> str:
    """Return the canonical URI that every version of the SDK passes on."""
    try:
        return str(AnyUrl(uri))
    except ValidationError:
        return uri
