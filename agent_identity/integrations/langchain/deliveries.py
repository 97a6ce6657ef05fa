"""Deliveries of one tool call of an agent: what the guarded tool returned or raised, and nothing else."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, final

from pydantic import ValidationError

__all__ = ["Deliveries", "delivered", "entered", "raised"]

_CURRENT: Final[ContextVar["Deliveries | None"]] = ContextVar("agent_identity_deliveries", default=None)


@final
class Deliveries:
    """The deliveries of one tool call.

    Args:
        call_id: The id of the call.
        note: Gets each result, and each exception, before anybody can change it.

    Attributes:
        entered: True once the guarded tool was called.
        error: What it raised last.
    """

    __slots__ = ("_call_id", "entered", "error", "note")

    def __init__(self, call_id: str | None, note: Callable[[object], None]) -> None:
        self._call_id: Final = call_id
        self.note: Final = note
        self.entered = False
        self.error: BaseException | None = None

    @contextmanager
    def noted(self) -> Generator[None]:
        """Note the deliveries of this call in the block."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)

    def says_error(self, content: object) -> bool:
        """Return whether a text contains the error of the tool; an answer of middleware in its place may not.

        Args:
            content: The text.
        """
        error = self.error
        if error is None or not isinstance(content, str):
            return False
        if isinstance(error, ValidationError):  # The agent leaves out errors of injected arguments.
            return any(one["msg"] in content for one in error.errors())
        try:
            return (str(error) or type(error).__name__) in content
        except Exception:  # noqa: BLE001  Code of others.
            return False

    def takes(self, call_id: object) -> bool:
        """Return whether a call of a tool is this call; a body may call other tools."""
        return call_id is not None and call_id == self._call_id


def entered(call_id: object) -> Deliveries | None:
    """Note that a guarded tool is called, and return where to note what it delivers; ``None`` for nobody.

    Args:
        call_id: The id of its call.
    """
    current = _CURRENT.get()
    if current is None or not current.takes(call_id):
        return None
    current.entered = True
    return current


def delivered(deliveries: Deliveries | None, result: object) -> object:
    """Note what a guarded tool returned, and return it."""
    if deliveries is not None:
        deliveries.note(result)
    return result


def raised(deliveries: Deliveries | None, error: BaseException) -> None:
    """Note what a guarded tool raised."""
    if deliveries is not None:
        deliveries.error = error
        deliveries.note(error)
