"""PostgreSQL connection with bounded waits. Imported only where psycopg is installed."""

import math
import select
import time
from typing import Final, TypeVar, final

import psycopg
from psycopg.abc import PQGen

_T = TypeVar("_T")
_INTERVAL: Final = 0.05


@final
class BoundedConnection(psycopg.Connection[tuple[object, ...]]):
    """A connection whose every wait for the server ends, even if the server hangs or the network fails silently."""

    limit: float = 5.0

    def wait(
        self,
        gen: PQGen[_T],
        interval: float = _INTERVAL,
        timeout: float | None = None,  # noqa: ARG002  Newer versions of psycopg have it.
    ) -> _T:
        """See :meth:`psycopg.Connection.wait`.

        Raises:
            TimeoutError: The server did not answer in time; the connection is of no use any more.
        """
        return super().wait(_bounded(gen, self.limit), min(interval, _INTERVAL))

    @property
    def quiet(self) -> bool:
        """True if the server sent nothing since the last answer, not even the end of the connection."""
        if self.closed:
            return False
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return not poll.poll(0)


def _bounded(steps: PQGen[_T], limit: float) -> PQGen[_T]:
    deadline = time.monotonic() + limit
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                raise TimeoutError
            wanted = steps.send(ready)
    except StopIteration as stop:
        result: _T = stop.value
        return result


def connect(conninfo: str, timeout: float) -> BoundedConnection:
    """Return a connection for single statements, with settings independent of the server's.

    Args:
        conninfo: As ``psycopg.connect`` takes it.
        timeout: Seconds to wait for the connection, for each answer, and for locks of others.
    """
    connection = BoundedConnection.connect(
        conninfo, autocommit=True, connect_timeout=math.ceil(timeout), application_name="agent-identity"
    )
    connection.limit = timeout + 1  # The server's own word is more telling, so it gets the chance.
    milliseconds = str(max(1, int(timeout * 1_000)))
    try:
        connection.execute(
            "SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false), "
            "set_config('idle_in_transaction_session_timeout', %s, false), "
            "set_config('default_transaction_isolation', 'read committed', false), "
            "set_config('default_transaction_read_only', 'off', false)",
            (milliseconds, milliseconds, str(int(timeout * 10_000))),
        )
    except BaseException:
        connection.close()
        raise
    return connection
