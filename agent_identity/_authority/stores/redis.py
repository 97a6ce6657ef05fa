"""State shared by many machines, in a Redis server. Each step is one atomic script."""

import hashlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pkgutil import get_data
from types import ModuleType
from typing import Final, Protocol, final

from agent_identity._authority.stores._counters import width
from agent_identity._authority.stores.protocol import (
    GRACE,
    Debit,
    Horizon,
    check_debits,
    check_key,
    check_number,
    check_version,
    kept_of,
    share_of,
)
from agent_identity._common.narrowing import is_dict, is_list
from agent_identity._common.typed_calls import typed_calls
from agent_identity.errors import ConfigurationError, StateError

_LONGEST: Final = 100 * 366 * 24 * 3600
_MAX_PREFIX: Final = 128


def _script(*names: str, then: str = "") -> str:
    """Return a script that begins as all of them do, from its parts and its last line."""
    parts = (get_data(__name__, f"redis_scripts/{name}.lua") or b"" for name in ("begin", *names))
    return b"".join(parts).decode() + then


_INSERT: Final = _script("insert")
_CONTAINS: Final = _script("contains")
_DEBIT: Final = _script("spend", then="return answer(spend(#KEYS - 1, false))")
_RESUME: Final = _script("spend", then="return answer(spend((#KEYS - 1) / 2, true))")
_KEEP: Final = _script("keep")
_CREDIT: Final = _script("credit")
_PUT: Final = _script("put")
_GET: Final = _script(then="return answer(redis.call('HMGET', KEYS[2], 'version', 'data'))")
_GENERATION: Final = _script(then="return answer(tonumber(redis.call('HGET', KEYS[1], 'news') or '0'))")


class _Client(Protocol):
    """The used part of a Redis client."""

    def execute_command(self, *arguments: object) -> object:
        """Send a command and return the answer."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


@typed_calls("__init__")
@final
class RedisState:
    """State shared by many machines, in a Redis server (7 or newer, or Valkey). Needs the extra ``redis``.

    Nothing is opened before the first use. A server that forgets is refused: one that drops keys when its memory is
    full (anything but ``maxmemory-policy noeviction``), and one that has lost writes since this object asked it
    last, until it is made anew. Give the server a disk (``appendonly yes``), and do not share the prefix with
    anything else. Clusters are not supported.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, as ``redis.Redis.from_url`` takes it.
        prefix: Begins the name of every key; those who share state use the same one.
        timeout: Seconds to wait for a connection, and for each answer.
        random: Source of random bytes, for the name of the state.

    Raises:
        ConfigurationError: The client library is not installed, or the URL is none that it takes.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "agent-identity",
        timeout: float = 2.0,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if len(check_key(prefix)) > _MAX_PREFIX or set(prefix) & set("{}"):
            raise ValueError(f"the prefix has braces or more than {_MAX_PREFIX} characters")
        if not 0 < timeout <= 60:
            raise ValueError("the timeout is not above 0 and at most 60 seconds")
        self._options = _options(url)
        self._prefix = f"{{{prefix}}}"
        self._timeout = timeout
        self._candidate = random(16).hex()
        self._horizon = Horizon()
        self._lock = threading.Lock()
        self._client: _Client | None = None
        self._origin: bytes | None = None
        self._writes = 0
        self._refusal: str | None = None

    def insert(self, key: str, *, now: int, expires_at: int) -> bool:
        """See :meth:`StateStore.insert`."""
        check_key(key)
        if check_number("expires_at", expires_at) <= self._horizon.of(check_number("now", now)):
            return False
        return self._run(_INSERT, [f"kept:{key}"], now, expires_at, _lifetime(now, expires_at)) == 1

    def contains(self, key: str, *, now: int) -> bool:
        """See :meth:`StateStore.contains`."""
        return self._run(_CONTAINS, [f"kept:{check_key(key)}"], check_number("now", now)) == 1

    def debit(self, debits: Sequence[Debit], *, now: int) -> int | None:
        """See :meth:`StateStore.debit`."""
        answer = self._spend(_DEBIT, _counters(debits), debits, now)
        return answer if isinstance(answer, int) else None

    def resume(self, share: str, debits: Sequence[Debit], *, now: int) -> tuple[int, ...] | int:
        """See :meth:`StateStore.resume`."""
        check_key(share)
        keys = [*_counters(debits), *_counters([share_of(share, debit) for debit in debits])]
        return self._spend(_RESUME, keys, debits, now)

    def _spend(self, script: str, keys: Sequence[str], debits: Sequence[Debit], now: int) -> tuple[int, ...] | int:
        late = check_debits(debits, now, self._horizon)
        if late is not None:
            return late
        answer = self._run(script, keys, now, *_arguments(debits, now))
        if isinstance(answer, int):
            return answer
        return tuple(_number(amount) for amount in _answers(answer, len(debits)))

    def keep(self, share: str, debits: Sequence[Debit], *, now: int) -> None:
        """See :meth:`StateStore.keep`."""
        check_key(share)
        if check_debits(debits, now, self._horizon) is None:
            shares = kept_of(share, debits)
            self._run(_KEEP, _counters(shares), now, *_arguments(shares, now))

    def credit(self, debits: Sequence[Debit], *, now: int) -> None:
        """See :meth:`StateStore.credit`."""
        check_debits(debits, now, self._horizon)
        self._run(_CREDIT, _counters(debits), now, *_arguments(debits, now))

    def put(self, name: str, version: int, data: bytes) -> bool:
        """See :meth:`StateStore.put`."""
        check_version(name, version, data)
        return self._run(_PUT, [f"version:{name}"], 0, version, data) == 1

    def get(self, name: str) -> tuple[int, bytes] | None:
        """See :meth:`StateStore.get`."""
        version, data = _answers(self._run(_GET, [f"version:{check_key(name)}"], 0), 2)
        return None if version is None or data is None else (int(_bytes(version)), _bytes(data))

    def generation(self) -> int:
        """See :meth:`StateStore.generation`; this one queries the server."""
        return _number(self._run(_GENERATION, [], 0))

    def close(self) -> None:
        """See :meth:`StateStore.close`. It cannot be used any more."""
        with self._lock:
            self._refusal = "the store of state is closed; open the enforcer again"
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _run(self, script: str, keys: Sequence[str], now: int, *arguments: object) -> object:
        """Return the result of a script, after checking that the server kept all earlier writes."""
        exceptions, writes_before = _library().exceptions, self._writes
        names = [f"{self._prefix}:{key}" for key in ("facts", *keys)]
        rest = (len(names), *names, self._candidate, now, *arguments)
        try:
            client = self._connected()
            try:
                answer = client.execute_command("EVALSHA", _digest(script), *rest)
            except exceptions.NoScriptError:
                answer = client.execute_command("EVAL", script, *rest)
        except exceptions.RedisError as error:
            raise _explained(error) from error
        result, writes, origin = _answers(answer, 3)
        self._check_memory(writes_before, _number(writes), _bytes(origin))
        return result

    def _check_memory(self, writes_before: int, writes: int, origin: bytes) -> None:
        """Refuse a server that lost writes: it would accept used proofs and spent limits again."""
        with self._lock:
            self._origin = self._origin or origin
            self._writes = max(self._writes, writes)
            if writes >= writes_before and origin == self._origin:
                return
            self._refusal = (
                "the Redis server has lost writes, as after a restart without 'appendonly yes'; end what "
                "is under way and open the enforcer again"
            )
        raise StateError(self._refusal)

    def _connected(self) -> _Client:
        """Return the client; it pools connections, one for each call under way, and replaces broken ones."""
        with self._lock:
            if self._refusal is not None:
                raise StateError(self._refusal)
            if self._client is not None:
                return self._client
            client = _client(self._options, self._timeout)
            try:
                _check_policy(client.execute_command("INFO", "memory"))
            except BaseException:
                client.close()
                raise
            self._client = client
            return client


def _library() -> ModuleType:
    """Return the Redis client library.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        import redis  # An extra.
    except ImportError:
        raise ConfigurationError(
            "the Redis client, which RedisState needs, is missing; run pip install '.[redis]' in the checkout"
        ) from None
    return redis


def _options(url: str) -> Mapping[str, object]:
    """Return the options in a URL."""
    try:
        options: Mapping[str, object] = _library().connection.parse_url(url)
    except ValueError:  # Its text may quote the password.
        raise ConfigurationError(
            "the Redis URL cannot be taken apart; write one such as "
            "redis://user:password@host:6379/0, with special characters of the password as %40 and "
            "the like"
        ) from None
    return options


def _client(settings: Mapping[str, object], timeout: float) -> _Client:
    redis = _library()
    options = {
        **settings,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "decode_responses": False,
        # A step that was sent may have been taken, so it is never retried without the caller's knowledge.
        "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0),
    }
    client: _Client = redis.Redis.from_pool(redis.ConnectionPool(**options))
    return client


def _answers(answer: object, count: int) -> list[object]:
    if not is_list(answer) or len(answer) != count:
        raise _unknown_answer()
    return answer


def _number(answer: object) -> int:
    if type(answer) is not int:
        raise _unknown_answer()
    return answer


def _bytes(answer: object) -> bytes:
    if type(answer) is not bytes:
        raise _unknown_answer()
    return answer


def _unknown_answer() -> StateError:
    return StateError("the Redis server does not answer our scripts as Redis does; check the server")


def _check_policy(memory: object) -> None:
    facts = memory if is_dict(memory) else {}
    if facts.get("maxmemory") != 0 and facts.get("maxmemory_policy") != "noeviction":
        raise StateError("the Redis server drops keys when its memory is full; set maxmemory-policy noeviction")


def _digest(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()  # What Redis calls a script by.


def _counters(debits: Sequence[Debit]) -> list[str]:
    return [f"counter:{debit.window or 0}:{debit.key}" for debit in debits]


def _arguments(debits: Sequence[Debit], now: int) -> list[int]:
    return [
        argument
        for debit in debits
        for argument in (
            debit.amount,
            debit.limit,
            debit.window or 0,
            width(debit.window),
            debit.expires_at,
            _lifetime(now, debit.expires_at),
        )
    ]


def _lifetime(now: int, expires_at: int) -> int:
    """Return the time in milliseconds, by the server's clock, after which it may forget an entry."""
    return min(max(0, expires_at - now) + GRACE, _LONGEST) * 1_000


def _explained(error: Exception) -> StateError:
    """Return the error for a failure of client or server; its text may hold the address, so only the class is named."""
    kind = type(error).__name__
    if kind == "OutOfMemoryError" or str(error).startswith("OOM"):
        return StateError(
            "the memory of the Redis server is full; raise its maxmemory",
            code="state_full",
        )
    return StateError(f"the Redis server failed with {kind}; check the server and the way to it")
