"""An agent without a model: its script names the tools to call."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import cast, final

from agent_identity.errors import Denied

__all__ = ["ScriptedAgent"]

_Tools = Mapping[str, object] | Iterable[object]
_Make = Callable[[], object]


@final
class ScriptedAgent:
    """Makes the calls of its script in order, and continues after a refusal, as an agent with a model does.

    It runs under the task that the surrounding code has opened, or outside any task.

    Args:
        script: The calls: the name of a tool, and its arguments by name.

    Raises:
        TypeError: A call has another form.
    """

    def __init__(self, *script: tuple[str, Mapping[str, object]]) -> None:
        for call in cast("tuple[object, ...]", script):
            match call:
                case (str(), Mapping()):
                    pass
                case _:
                    raise TypeError(
                        "a call of the script has another form; write ('read_invoice', {'invoice_id': 'INV-42'})"
                    )
        self._script = tuple((name, dict(arguments)) for name, arguments in script)

    def run(self, tools: _Tools) -> tuple[object, ...]:
        """Make the calls; return what each returned, or the :class:`~agent_identity.errors.Denied` that it raised.

        Any other exception of a tool ends the run.

        Args:
            tools: Functions, known by their ``__name__``, and tools of LangChain, known by their ``name``; or a
                mapping, by other names.

        Raises:
            LookupError: The script names a tool that was not passed; nothing ran.
            TypeError: A tool is a coroutine function: use :meth:`run_async`.
        """
        answers: list[object] = []
        for make in self._prepared(tools, "invoke"):
            try:
                answer = make()
            except Denied as denied:
                answer = denied
            if inspect.iscoroutine(answer):
                answer.close()
                raise TypeError("a tool is a coroutine function; use run_async")
            answers.append(answer)
        return tuple(answers)

    async def run_async(self, tools: _Tools) -> tuple[object, ...]:
        """Make the calls as :meth:`run` does, also of coroutine functions, and with ``ainvoke`` of LangChain.

        Args:
            tools: As for :meth:`run`.

        Raises:
            LookupError: The script names a tool that is not among them; nothing ran.
        """
        answers: list[object] = []
        for make in self._prepared(tools, "ainvoke"):
            try:
                answer = make()
                answers.append(await answer if inspect.isawaitable(answer) else answer)
            except Denied as denied:
                answers.append(denied)
        return tuple(answers)

    def _prepared(self, tools: _Tools, method: str) -> list[_Make]:
        known = _known(tools)
        missing = sorted({name for name, _ in self._script} - known.keys())
        if missing:
            raise LookupError(f"the script names tools that were not passed: {', '.join(missing)}; pass them too")
        return [_make(known[name], method, arguments) for name, arguments in self._script]


def _known(tools: _Tools) -> Mapping[object, object]:
    if isinstance(tools, Mapping):
        return cast("Mapping[object, object]", tools)
    return {getattr(tool, "name", None) or getattr(tool, "__name__", None): tool for tool in tools}


def _make(tool: object, method: str, arguments: dict[str, object]) -> _Make:
    """Return a function that makes a call: functions get keyword arguments, LangChain tools one mapping."""
    entry: object = getattr(tool, method, None)
    if callable(entry):
        return cast("_Make", partial(entry, arguments))
    return cast("_Make", partial(cast("Callable[..., object]", tool), **arguments))
