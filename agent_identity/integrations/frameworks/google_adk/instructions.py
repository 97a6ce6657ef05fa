"""Instructions of Google ADK: the texts of others that the ADK writes into them."""

import json
import re
from collections.abc import Generator, Iterable, Mapping
from typing import Final, NamedTuple

from google.adk.agents.base_agent import BaseAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.models.llm_request import LlmRequest

__all__ = ["Filled", "filled_instructions", "texts_of_others"]

_PLACEHOLDER: Final = re.compile(r"{+[^{}]*}+")
_PREFIXES: Final = frozenset({"", "app", "user", "temp"})
_ADDING: Final = frozenset({"PreloadMemoryTool", "LoadArtifactsTool", "LoadMcpResourceTool", "McpInstructionProvider"})
"""What writes memories, texts of servers, or names that others have chosen, into the instruction: tools, a provider."""

_REMOTE: Final = frozenset({"RemoteA2aAgent"})
"""Agents that take their description from elsewhere if they have none."""


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
    if any(
        _is_one(each, _ADDING) for each in (*templates, *getattr(run.agent, "tools", ()), *request.tools_dict.values())
    ):
        filled.append(Filled(None, ()))
    if isinstance(run.agent, BaseAgent):
        filled += _described(run.agent, str(request.config.system_instruction))
    return tuple(one for one in filled if one.text is None or one.values)


def _is_one(thing: object, names: frozenset[str]) -> bool:
    """Return whether an object is of one of the classes; a tool that found nothing to add counts as well."""
    return any(kind.__name__ in names for kind in type(thing).__mro__)


def _described(agent: BaseAgent, instruction: str) -> Generator[Filled]:
    """Yield the descriptions of remote agents that an agent may hand over to."""
    others = (*agent.sub_agents, *(agent.parent_agent.sub_agents if agent.parent_agent else ()))
    for one in others:
        if _is_one(one, _REMOTE) and one.name in instruction:
            yield Filled(one.description or None, (one.description,))


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
