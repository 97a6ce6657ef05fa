"""Cache of an issuer's key set, fetched on demand with bounded size and time, and without redirects."""

import ipaddress
import os
import threading
from dataclasses import dataclass
from http.client import HTTPException
from ssl import SSLContext, create_default_context
from typing import Final, Self, final
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

from agent_identity._identity.common.clock import Clock, SystemClock
from agent_identity._identity.foreign.jwks import MAX_KEY_SET, KeySet
from agent_identity._identity.foreign.jwt import read_object
from agent_identity.errors import TokenError

_MAX_ADDRESS: Final = 2048
_UNDER_WAY: Final[set[tuple[int, str]]] = set()
"""Requests that no one may wait for any longer but that still run, so that a slow server gets one thread, not many."""

_DISCOVERY: Final = "/.well-known/openid-configuration"
_SECOND: Final = 1_000_000_000
_LONGEST: Final = 86_400


def check_address(url: str) -> str:
    """Return the URL if keys may be fetched from it.

    Raises:
        TypeError: It is no ``str``.
        ValueError: It is no ``https`` URL with a host, or has a user or a fragment. Plain ``http`` is accepted for
            this machine only (``localhost`` and loopback addresses).
    """
    if type(url) is not str:
        raise TypeError(f"the URL is {type(url).__name__}; give a str")
    parts = urlsplit(url)
    plain = len(url) <= _MAX_ADDRESS and url.isascii() and url.isprintable() and " " not in url
    if not plain or not parts.hostname or parts.fragment or "@" in parts.netloc:
        raise ValueError(
            f"the URL has more than {_MAX_ADDRESS} characters, an invisible one, a user or a fragment; correct it"
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname)):
        raise ValueError("the URL is not https (http only for this machine); others could answer in its place")
    return url


def fetch(url: str, *, limit: int, timeout: float, context: SSLContext | None = None) -> bytes:
    """Return the body of the address served with status 200.

    Redirects are refused: a redirecting party would choose the keys. The proxies of the environment are used, except
    for this machine.

    Args:
        url: An address that :func:`check_address` accepts.
        limit: Most bytes accepted.
        timeout: Seconds for everything together: names, connection, TLS, answer.
        context: The TLS context; by default it trusts the authorities of the system.

    Raises:
        TokenError: With code ``keys_unavailable``.
    """
    request = (os.getpid(), url)
    if request in _UNDER_WAY:
        raise TokenError(
            "the configured address has not answered the last request yet; try again later", code="keys_unavailable"
        )
    results: list[bytes | str] = []
    opener = _opener(url, context)

    def run() -> None:
        try:
            with opener.open(Request(url, headers={"Accept": "application/json"}), timeout=timeout) as response:  # noqa: S310  The scheme was checked.
                results.append(response.read(limit + 1) if response.status == 200 else "another status")
        except (OSError, HTTPException, ValueError) as error:
            results.append(type(error).__name__)
        finally:
            _UNDER_WAY.discard(request)

    # Time limits of sockets start again with every byte, and names are resolved without any. A thread that is not
    # waited for any longer bounds them all.
    thread = threading.Thread(target=run, name="agent-identity-fetch", daemon=True)
    _UNDER_WAY.add(request)
    thread.start()
    thread.join(timeout)
    result = results[0] if results else "no answer in time"
    if isinstance(result, str):
        raise TokenError(f"the configured address returned no keys: {result}", code="keys_unavailable")
    if len(result) > limit:
        raise TokenError(f"the configured address returned more than {limit} bytes", code="keys_unavailable")
    return result


def _opener(url: str, context: SSLContext | None) -> OpenerDirector:
    """Return an opener for HTTP and HTTPS that follows no redirect and opens no files, unlike the default."""
    opener = OpenerDirector()
    parts = urlsplit(url)
    if not _is_loopback(parts.hostname or ""):
        opener.add_handler(ProxyHandler())
    opener.add_handler(HTTPHandler())
    opener.add_handler(HTTPSHandler(context=context or create_default_context()))
    return opener


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@final
@dataclass(frozen=True, slots=True)
class _Kept:
    keys: KeySet
    wall_ns: int
    monotonic_ns: int


@final
class JwksSource:
    """The keys of an issuer from an address that you name, never from one that a token names.

    Make one for each issuer and keep it: it is safe to use from all threads. Nothing is fetched before the first token
    asks. Afterwards the address is asked at most once every ``retry_after`` seconds, whatever tokens come in, and
    nothing is remembered about them: a flood of invented key names costs neither memory nor requests (AC-15).

    Args:
        url: The ``jwks_uri`` of the issuer: ``https``, or ``http`` on this machine.
        max_age: Seconds for which fetched keys are used without asking again; at most a day.
        stale_if_error: Seconds for which they are used after that if the address does not answer; at most a day.
            Keys that the issuer withdrew count until ``max_age`` is over, or at the latest both together.
        retry_after: Least seconds between two requests, also for keys that a token names and the set does not have.
        timeout: Seconds that a caller waits for an answer, at most.
        context: The TLS context; by default it trusts the authorities of the system.
        clock: Source of time.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: The URL is none that keys may come from, or a number is out of range.
    """

    def __init__(
        self,
        url: str,
        *,
        max_age: float = 3600,
        stale_if_error: float = 3600,
        retry_after: float = 30,
        timeout: float = 5,
        context: SSLContext | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.url: Final = check_address(url)
        self._max_age = _seconds(max_age, "max_age", least=1)
        self._stale = _seconds(stale_if_error, "stale_if_error", least=0)
        self._retry = _seconds(retry_after, "retry_after", least=1)
        self._timeout = _seconds(timeout, "timeout", least=0.1) / _SECOND
        self._context = context
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._kept: _Kept | None = None
        self._attempted_ns: int | None = None

    def __repr__(self) -> str:
        return f"JwksSource({self.url!r})"

    @classmethod
    def discover(
        cls,
        issuer: str,
        *,
        max_age: float = 3600,
        stale_if_error: float = 3600,
        retry_after: float = 30,
        timeout: float = 5,
        context: SSLContext | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """Fetch the address of the keys from the issuer (OpenID Connect Discovery §4); return a source for them.

        Raises:
            TokenError: With code ``keys_unavailable`` if the issuer does not answer, ``wrong_issuer`` if the answer is
                that of another one, ``bad_key_set`` if it names no acceptable address.
            TypeError: A value has the wrong type.
            ValueError: The issuer is no URL that keys may come from, or a number is out of range.
        """
        address = check_address(issuer).removesuffix("/") + _DISCOVERY
        document = fetch(address, limit=MAX_KEY_SET, timeout=timeout, context=context)
        metadata = read_object(document, "the metadata of the issuer", code="bad_key_set")
        if metadata.get("issuer") != issuer:
            raise TokenError("the metadata is that of another issuer", code="wrong_issuer")
        try:
            url = check_address(metadata.get("jwks_uri"))  # type: ignore[arg-type]  # It checks the type.
        except (TypeError, ValueError):
            raise TokenError("the jwks_uri of the issuer is not an https URL", code="bad_key_set") from None
        return cls(
            url,
            max_age=max_age,
            stale_if_error=stale_if_error,
            retry_after=retry_after,
            timeout=timeout,
            context=context,
            clock=clock,
        )

    def keys_for(self, kid: str | None) -> KeySet:
        """Return the keys of the issuer; fetch them if the cache is too old or lacks the named key.

        Raises:
            TokenError: With code ``keys_unavailable`` if no usable keys exist now.
        """
        kept = self._kept
        if kept is None or not self._suffices(kept, kid):
            with self._own_lock():  # The others wait for the one that asks, at most for the timeout.
                kept = self._refreshed(kid)
        return kept.keys

    def _refreshed(self, kid: str | None) -> _Kept:
        kept = self._kept
        if kept is not None and self._suffices(kept, kid):
            return kept
        now, reason = self._clock.monotonic_ns(), "the keys could not be fetched yet; it is tried again"
        if self._attempted_ns is None or now - self._attempted_ns >= self._retry:
            self._attempted_ns = now
            try:
                document = fetch(self.url, limit=MAX_KEY_SET, timeout=self._timeout, context=self._context)
                kept = _Kept(KeySet.parse(document), self._clock.wall_ns(), self._clock.monotonic_ns())
                self._kept = kept
            except TokenError as error:
                reason = str(error)
        if kept is None or self._age(kept) >= self._max_age + self._stale:
            raise TokenError(reason, code="keys_unavailable")
        return kept

    def _suffices(self, kept: _Kept, kid: str | None) -> bool:
        return self._age(kept) < self._max_age and (kid is None or kid in kept.keys)

    def _age(self, kept: _Kept) -> int:
        """Return the larger age in nanoseconds of two clocks: one stops in sleep, the other may go back."""
        return max(self._clock.wall_ns() - kept.wall_ns, self._clock.monotonic_ns() - kept.monotonic_ns)

    def _own_lock(self) -> threading.Lock:
        if self._owner != os.getpid():  # A forked child may have inherited a lock that no one will release.
            self._lock, self._owner = threading.Lock(), os.getpid()
        return self._lock


def _seconds(value: float, what: str, *, least: float) -> int:
    if type(value) not in (int, float):
        raise TypeError(f"{what} is {type(value).__name__}; give seconds")
    if not least <= value <= _LONGEST:
        raise ValueError(f"{what} is not from {least} to {_LONGEST} seconds")
    return int(value * _SECOND)
