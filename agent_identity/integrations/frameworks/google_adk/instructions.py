"""Instructions of Google ADK: the texts of others that the ADK writes into them."""

import json
import re
from collections.abc import Generator, Iterable, Mapping
from typing import Final, NamedTuple

from google.adk.agents.invocation_context import InvocationContext
from google.adk.models.llm_request import LlmRequest

__all__ = ["Filled", "filled_instructions", "texts_of_others"]

_PLACEHOLDER: Final = re.compile(r"{+[^{}]*}+")
_PREFIXES: Final = frozenset({"", "app", "user", "temp"})
_ADDING: Final = frozenset({"PreloadMemoryTool", "LoadArtifactsTool", "LoadMcpResourceTool"})
"""Tools of the ADK that write memories, or names that tools or servers have chosen, into the instruction."""


class Filled(NamedTuple):
    """An instruction with placeholders, as the ADK fills it. Frozen.

    Attributes:
        text: The text; ``None`` if it is not known, because an artifact or a tool adds to it.
        values: The values from the state of the session.
    """

    text: str | None
    values: tuple[str, ...]


def filled_instructions(run: InvocationContext, request: LlmRequest) -> tuple[Filled, ...]:
    """Return the instructions of an agent, its app and its plugins that the ADK fills from what others wrote.

    An instruction that is a function has no placeholders: the application composes it.

    Args:
        run: The run of the agent.
        request: The request to its model.
    """
    owners = (getattr(run.agent, "root_agent", None), *run.plugin_manager.plugins)
    templates = [getattr(run.agent, "instruction", ""), *(getattr(one, "global_instruction", "") for one in owners)]
    filled = [_filled(text, run.session.state) for text in templates if isinstance(text, str) and "{" in text]
    if any(_adds(tool) for tool in (*getattr(run.agent, "tools", ()), *request.tools_dict.values())):
        filled.append(Filled(None, ()))
    return tuple(one for one in filled if one.text is None or one.values)


def _adds(tool: object) -> bool:
    """Return whether a tool writes texts of others into the instruction; one that found none counts as well."""
    return any(kind.__name__ in _ADDING for kind in type(tool).__mro__)


def _filled(template: str, state: Mapping[str, object]) -> Filled:
    values, has_artifact = list[str](), False

    def value_of(match: re.Match[str]) -> str:
        nonlocal has_artifact
        name = match.group().lstrip("{").rstrip("}").strip()
        has_artifact = has_artifact or name.startswith("artifact.")
        key = name.removesuffix("?")
        prefix, _, rest = key.rpartition(":")
        if prefix not in _PREFIXES or not rest.isidentifier():
            return match.group()
        if key not in state:
            return match.group() if key == name else ""
        value = state[key]
        values.append("" if value is None else str(value))
        return values[-1]

    text = _PLACEHOLDER.sub(value_of, template)
    return Filled(None if has_artifact else text, tuple(values))


def texts_of_others(instruction: object, filled: Iterable[Filled]) -> Generator[str]:
    """Yield the texts of others in the instruction of a request: all of it where they cannot be told apart.

    Args:
        instruction: The instruction.
        filled: The parts of it that had placeholders.
    """
    whole = instruction if isinstance(instruction, str) else json.dumps(instruction, default=str, ensure_ascii=False)
    for one in filled:
        if one.text is None or one.text not in whole:  # The state has changed since, or a callback the text.
            yield whole
        else:
            yield from filter(None, one.values)
