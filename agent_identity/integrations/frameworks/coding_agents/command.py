"""The command that a coding agent runs for each of its hooks: asks the enforcer behind a socket, and denies otherwise.

It is run by its path, with the standard library alone: ``python -I -S command.py SOCKET SECONDS``. Exit code 2
refuses; any other failure would let the tool run, so that 2 is what is left unless an answer says something else.
"""

import json
import os
import signal
import socket
import struct
import sys
from types import FrameType

MAX_BYTES = 16 * 1024 * 1024
AFTER = ("PostToolUse", "PostToolUseFailure", "Stop", "SubagentStop")
UGLY = "--run-tools-even-without-an-answer"


def main(arguments: list[str]) -> None:
    """Answer one hook, and leave the process.

    Args:
        arguments: The path of the socket, the seconds until it gives up, and optionally that failures let tools run.
    """
    status = failed = 0 if arguments[-1:] == [UGLY] else 2
    event = b""
    try:
        seconds = float(arguments[1])
        signal.signal(signal.SIGALRM, _give_up)
        signal.setitimer(signal.ITIMER_REAL, seconds)  # Interrupts whatever blocks.
        event = sys.stdin.buffer.read(MAX_BYTES + 1)
        status = _say(*_asked(arguments[0], event))
    except BaseException as error:  # noqa: BLE001  Whatever fails here must not let a tool run.
        status = _unanswered(event, type(error).__name__) if failed else 0
    finally:
        os._exit(status)


def _asked(path: str, event: bytes) -> tuple[int, str]:
    """Return the exit code and the text that the enforcer answers."""
    if len(event) > MAX_BYTES:
        raise ValueError("too large")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        _check_peer(connection, path)
        connection.sendall(event)
        connection.shutdown(socket.SHUT_WR)
        parts: list[bytes] = []
        while part := connection.recv(65_536):
            parts.append(part)
            if sum(map(len, parts)) > 2 * MAX_BYTES:
                raise ValueError("too large")
    code, text = json.loads(b"".join(parts))
    if type(code) is not int or code not in {0, 2} or type(text) is not str:
        raise ValueError("malformed")
    return code, text


def _check_peer(connection: socket.socket, path: str) -> None:
    """Refuse an answer from another user, who may have put a socket in this place."""
    owner = os.stat(path).st_uid  # noqa: PTH116  pathlib would take as long to import as all of this.
    if hasattr(socket, "SO_PEERCRED"):
        owner = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
    if owner != os.geteuid():
        raise PermissionError


def _say(code: int, text: str) -> int:
    stream = sys.stdout if code == 0 else sys.stderr
    stream.write(text)
    stream.flush()
    return code


def _unanswered(event: bytes, why: str) -> int:
    """Refuse without an answer: after a tool that means that the agent stops before the model sees the result."""
    text = f"refused: no answer from the enforcer ({why}); see that 'agent-identity hooks serve' runs"
    try:
        after = json.loads(event)["hook_event_name"] in AFTER
        return _say(0, json.dumps({"continue": False, "stopReason": text})) if after else _say(2, text)
    except BaseException:  # noqa: BLE001  As above.
        return 2


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError


if __name__ == "__main__":
    main(sys.argv[1:])
