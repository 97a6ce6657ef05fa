"""Attributes of call spans that no record states: what a tool says of itself, its conversation, its approver, content.

They are for people who read traces. The verifier compares none of them with a record, and says so.
"""

import logging
import os
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, cast, final

from agent_identity import canonical
from agent_identity._guard.calls.arguments import Arguments, canonical_bytes
from agent_identity._guard.calls.call import Call
from agent_identity._guard.common.failures import safe_message
from agent_identity._guard.judging._evaluator import PolicyEvaluator
from agent_identity._inspection.transform import UnmetError, edits_of, transformed
from agent_identity._policy.decision.obligations import Obligation
from agent_identity._spans.span_attributes import APPROVER_ATTRIBUTE
from agent_identity.canonical import JSON

_LOG: Final = logging.getLogger("agent_identity")
_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_ON_SPANS: Final = frozenset({"SPAN_ONLY", "SPAN_AND_EVENT"})
_ELSEWHERE: Final = frozenset({"", "NO_CONTENT", "EVENT_ONLY"})
_REDACT: Final = (Obligation("redact"),)
_MAX_DESCRIPTION: Final = 512
_MAX_CONTENT: Final = 8_192
_MAX_INSPECTED: Final = 1 << 20
"""Bytes of content that is inspected once more for its span; larger content is not shown."""


class SpanOptions(NamedTuple):
    """Options of one tool for the spans of its calls. Frozen.

    Attributes:
        description: The description that models get of the tool; ``None`` if it has none.
        content: Whether spans show arguments and results; ``None`` leaves it to the environment.
        names_run: Whether the workflow of a call names a single run, and no conversation.
    """

    description: str | None = None
    content: bool | None = None
    names_run: bool = False


def captures_content(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the environment asks for arguments and results on spans; unknown words do not."""
    word = environ.get(_VARIABLE, "").strip()
    if word.upper() not in _ON_SPANS | _ELSEWHERE:
        _LOG.warning("%s is no word of the conventions, so no span shows content; use SPAN_ONLY", _VARIABLE)
    return word.upper() in _ON_SPANS


@final
class SpanFacts:
    """Collects the attributes for the spans of one tool.

    Args:
        tool: The name of the tool, for messages.
        ask: Inspects content.
        options: The options of the tool.
        captures: Whether spans show content where the options leave it open.

    Attributes:
        shows_content: Whether spans show arguments and results.
    """

    __slots__ = ("_always", "_ask", "_names_run", "_tool", "shows_content")

    def __init__(self, tool: str, ask: PolicyEvaluator, options: SpanOptions, *, captures: bool) -> None:
        self._tool = tool
        self._ask = ask
        self._names_run = options.names_run
        self.shows_content: Final = captures if options.content is None else options.content
        described = " ".join((options.description or "").split())
        self._always: Mapping[str, str] = MappingProxyType(
            {"gen_ai.tool.description": _cut(described, _MAX_DESCRIPTION)} if described else {}
        )

    def of(self, call: Call, result: object) -> Mapping[str, str]:
        """Return the attributes of a call that is over.

        Args:
            call: The call.
            result: What its caller gets; ``None`` where that is withheld, or not to be shown.
        """
        workflow = None if call.facts is None or self._names_run else call.facts.workflow
        approver = None if call.routing is None else call.routing.approver
        if workflow is None and approver is None and call.shown_arguments is None and not self.shows_content:
            return self._always
        content = None if result is None or not self.shows_content else self._text(result, "output")
        return dict(self._always) | {
            name: value
            for name, value in (
                ("gen_ai.conversation.id", workflow),
                ("gen_ai.tool.call.arguments", call.shown_arguments),
                ("gen_ai.tool.call.result", content),
                (APPROVER_ATTRIBUTE, approver),
            )
            if value
        }

    def arguments_of(self, call: Call) -> str | None:
        """Return the arguments of a call that is about to run, as its span shows them.

        They are those that the model wrote, with handles for kept values; what the framework injected is left out.
        """
        arguments = call.displayed
        return None if arguments is None else self._text(_written(arguments, call.request.injected), "input")

    def _text(self, value: object, direction: Literal["input", "output"]) -> str | None:
        """Return the JSON of content with all findings replaced; ``None`` if that cannot be told to be all."""
        try:
            data = canonical_bytes(value)
            if data is None or len(data) > _MAX_INSPECTED:
                return None
            plain: object = canonical.decode(data)
            findings = self._ask.inspect(direction, plain)
            edits = edits_of(findings, _REDACT) if findings else None
            if edits is not None:
                plain = transformed(plain, edits, _no_token)
                if self._ask.inspect(direction, plain):
                    return None
                data = canonical.encode(cast("JSON", plain))
            return _cut(data.decode(), _MAX_CONTENT)
        except UnmetError:
            return None
        except Exception as error:  # noqa: BLE001 - Content is shown only if it was looked at; the call goes on.
            _LOG.warning("a span of %s shows no content: %s", self._tool, safe_message(error))
            return None


def _written(arguments: Arguments, injected: Collection[str]) -> dict[str, object]:
    left_out = {*arguments.opaque, *injected}
    return {name: value for name, value in arguments.view.items() if name not in left_out}


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _no_token(category: str, _: str) -> str:  # pragma: no cover  Redaction makes no tokens.
    return f"[{category}]"
