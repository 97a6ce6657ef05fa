"""How authority travels with an MCP request: what stands in ``_meta``, and what a proof says about a request.

The chain of grants, the proof for this one request and perhaps a grant to the server itself stand in ``params._meta``
under names of ours. The proof is over the name of the server, the tool, and all parameters but ``_meta``.

Scopes, policies and records know a tool as ``server/tool``, a prompt as ``server:prompt/name``, what is read from
resources as ``server:resource`` and completions as ``server:completion``. What a server asks of its client is
``server:sampling``, ``server:elicitation`` and ``server:roots``. Names of servers have no such marks, so that no two
things have one name.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, cast

from pydantic import AnyUrl, ValidationError

from agent_identity.enforcement import Presentation
from agent_identity.errors import Denied, TokenError
from agent_identity.identity import check_id

__all__ = [
    "ASKED",
    "CHAIN",
    "MAX_META",
    "METHODS",
    "NEXT",
    "OURS",
    "PROOF",
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
    "tool_name",
]

CHAIN: Final = "io.agent-identity/delegation"
PROOF: Final = "io.agent-identity/delegation-pop"
NEXT: Final = "io.agent-identity/delegation-next"
OURS: Final = (CHAIN, PROOF, NEXT)
"""Our members of ``params._meta``."""

REFUSAL: Final = "io.agent-identity/refusal"
"""Our member of ``_meta`` in the result of a refused tool call: code and reference."""

METHODS: Final = frozenset({"tools/call", "resources/read", "prompts/get", "completion/complete"})
"""What is guarded on its way to a server."""

ASKED: Final = {"sampling/createMessage": "sampling", "elicitation/create": "elicitation", "roots/list": "roots"}
"""What is guarded where a server asks its client, and the part of its name behind the server."""

MAX_META: Final = 65_536
"""Characters of our members together, at most."""

_BETWEEN: Final = "~"
_VALUE: Final = re.compile(r"[A-Za-z0-9_.~-]+")


class Target(NamedTuple):
    """What a request is about to do.

    Attributes:
        name: What scopes, policies and records call it.
        values: Its arguments by name.
        tool: The tool's own name at the server; ``None`` for what is no tool.
        trouble: Why it cannot be judged: what is asked for has no name that a record could hold.
    """

    name: str
    values: Mapping[str, object]
    tool: str | None = None
    trouble: Denied | None = None


def tool_name(server: str, tool: str) -> str:
    """Return what scopes, policies and records call a tool of a server."""
    return f"{server}/{tool}"


def prompt_name(server: str, prompt: str) -> str:
    """Return what scopes, policies and records call a prompt of a server."""
    return f"{server}:prompt/{prompt}"


def resource_name(server: str) -> str:
    """Return what scopes, policies and records call reading a resource of a server; its argument is ``uri``."""
    return f"{server}:resource"


def target_of(server: str, method: str, params: Mapping[str, object]) -> Target | None:
    """Return what a request is about to do; ``None`` if it is none that is guarded.

    Args:
        server: The name of the server.
        method: The method of the request.
        params: Its parameters as they stand in JSON.
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
    except (TypeError, ValueError):
        text = "expected the name of a tool or prompt with 1 to 256 visible characters, got another"
        return Target(f"{server}:unnamed", values, tool, Denied(text, code="bad_arguments"))
    if "task" in params:
        text = f"{name}: expected a call that is over when it is answered, got one that goes on without its task"
        return Target(name, values, tool, Denied(text, code="not_a_call"))
    return Target(name, values, tool)


def asked_by(server: str, method: str, params: Mapping[str, object]) -> Target:
    """Return what a server asks of its client.

    Args:
        server: The name of the server.
        method: One of :data:`ASKED`.
        params: Its parameters as they stand in JSON.
    """
    return Target(f"{server}:{ASKED[method]}", bound(params))


def _completed(params: Mapping[str, object]) -> dict[str, object]:
    """Return whose argument is completed (``prompt`` or ``uri``), which one, and from what."""
    of, argument, context = (members(params.get(name)) for name in ("ref", "argument", "context"))
    found = {
        "prompt": of.get("name"),
        "uri": of.get("uri"),
        "argument": argument.get("name"),
        "value": argument.get("value"),
        "given": context.get("arguments"),
    }
    return {name: value for name, value in found.items() if value is not None}


def members(value: object) -> Mapping[str, object]:
    """Return the members of what is perhaps an object; none if it is another thing."""
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


def bound(params: Mapping[str, object]) -> dict[str, object]:
    """Return what a proof says about a request: all parameters but ``_meta``."""
    return {name: value for name, value in params.items() if name != "_meta"}


def to_meta(presentation: Presentation) -> dict[str, str]:
    """Return the members for ``_meta``.

    Raises:
        TokenError: With code ``too_large``: the server would refuse them.
    """
    members = {CHAIN: _BETWEEN.join(presentation.tokens), PROOF: presentation.proof}
    if presentation.onward is not None:
        members[NEXT] = presentation.onward
    size = sum(map(len, members.values()))
    if size > MAX_META:
        raise TokenError(
            f"expected at most {MAX_META} characters of authority in _meta, got {size}; use a smaller scope",
            code="too_large",
        )
    return members


def presentation_of(meta: Mapping[str, object]) -> Presentation | None:
    """Return what ``_meta`` presents; ``None`` if there is nothing of ours.

    Raises:
        TokenError: With code ``malformed_meta`` if a member is alone or malformed, ``too_large`` if they are too
            long together.
    """
    found = {name: meta[name] for name in OURS if name in meta}
    if not found:
        return None
    texts = {name: value for name, value in found.items() if isinstance(value, str)}
    if sum(map(len, texts.values())) > MAX_META:
        raise TokenError(f"expected at most {MAX_META} characters of authority in _meta", code="too_large")
    if len(texts) != len(found) or not {CHAIN, PROOF} <= texts.keys() or not all(map(_VALUE.fullmatch, texts.values())):
        raise TokenError("expected a chain and a proof in _meta, well-formed and together", code="malformed_meta")
    return Presentation(tuple(texts[CHAIN].split(_BETWEEN)), texts[PROOF], texts.get(NEXT))


def normal_uri(uri: str) -> str:
    """Return a URI in the one form that every version of the SDK hands on."""
    try:
        return str(AnyUrl(uri))
    except ValidationError:
        return uri
