"""Detectors behind an HTTP endpoint, asked like a local model."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias, cast, final
from urllib.parse import urlsplit

from agent_identity._common.narrowing import is_array, is_object
from agent_identity.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl

    from agent_identity._inspection.classifier import Verdict

Headers: TypeAlias = Mapping[str, str] | Callable[[], Mapping[str, str]]

MAX_ANSWER: Final = 1_048_576
"""Bytes of one answer."""

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def _texts(texts: Sequence[str]) -> object:
    return {"texts": list(texts)}


def _scores(answer: object) -> "Sequence[Verdict]":
    """Read ``{"scores": […]}``; :class:`Classifier` checks the scores."""
    scores = answer.get("scores") if is_object(answer) else None
    if not is_array(scores):
        raise ValueError("the answer of the detector has no list 'scores'; give answer=, which reads it")
    return cast("Sequence[Verdict]", scores)


@final
class HttpModel:
    """A model for :class:`Classifier` behind an HTTP endpoint.

    **The inspected content leaves the process.** Each batch is one POST of JSON over a connection of its own. The
    endpoint is https, or http on this machine; TLS verifies the server. No redirect is followed and no proxy used. An
    answer other than 200, a late, malformed or oversized one fails, and :class:`Classifier` says what follows. The
    inspected content reaches the body of the request alone, never the URL or a header.

    Args:
        url: The endpoint. Never take it from content or from a model.
        headers: For each header, the name of the environment variable that has its value; or a function that returns
            headers and values. Both are read for each request, so that credentials can rotate.
        request: Returns the JSON of a request for texts; by default ``{"texts": [...]}``.
        answer: Returns the verdict for each text from the JSON of an answer; by default reads ``{"scores": [...]}``.
        timeout: Seconds for one request; name lookup comes on top.
        context: TLS for private authorities or client certificates; it must verify the server.

    Raises:
        TypeError: The URL is no text.
        ValueError: The URL, the name of a variable or the timeout is malformed.
        ConfigurationError: The TLS context does not verify the server.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Headers | None = None,
        request: Callable[[Sequence[str]], object] = _texts,
        answer: "Callable[[object], Sequence[Verdict]]" = _scores,
        timeout: float = 5.0,
        context: "ssl.SSLContext | None" = None,
    ) -> None:
        from agent_identity._authority.tokens.jwt import check_url  # noqa: PLC0415 - Few need HTTP.
        from agent_identity._common.http_post import verifies  # noqa: PLC0415 - Few need HTTP.

        self._url: Final = check_url(url, "the URL of the detector")
        if not 0 < timeout <= 3_600:
            raise ValueError("the timeout is out of range; give up to 3600 seconds")
        if context is not None and not verifies(context):
            raise ConfigurationError("the TLS context does not verify the server; use ssl.create_default_context()")
        named: dict[str, str] = {} if headers is None or callable(headers) else dict(headers)
        if not all(_VARIABLE.fullmatch(variable) for variable in named.values()):
            # What stands there may be the secret itself, so that the error does not show it.
            raise ValueError("a header has no name of an environment variable; give the name, never the value")
        self._headers: Final = headers if callable(headers) else named
        self._request: Final = request
        self._answer: Final = answer
        self._timeout: Final = timeout
        self._context: Final = context

    def prepare(self) -> None:
        """Check that the headers can be made, when the enforcer opens.

        Raises:
            ConfigurationError: An environment variable is not set.
        """
        self._fields()

    def __call__(self, texts: Sequence[str], /) -> "Sequence[Verdict]":
        """Return the verdicts of the endpoint.

        Args:
            texts: The texts.

        Raises:
            ConnectionError: No answer, or another status than 200.
            ValueError: The answer is malformed or too long.
        """
        from agent_identity._common.http_post import NoAnswerError, post  # noqa: PLC0415 - Few need HTTP.

        where = f"the detector at {urlsplit(self._url).netloc}"
        body = json.dumps(self._request(texts), allow_nan=False).encode()
        fields = {"Content-Type": "application/json", "Accept": "application/json", **self._fields()}
        problem = ""
        try:
            status, _, reply = post(
                self._url,
                headers=fields,
                body=body,
                timeout=self._timeout,
                limit=MAX_ANSWER + 1,
                context=self._context,
            )
        except NoAnswerError as error:
            status, reply, problem = 0, b"", str(error)
        if status != 200:
            raise ConnectionError(f"{where} gave {problem or f'HTTP {status}'}; inspection needs a 200")
        if len(reply) > MAX_ANSWER:
            raise ValueError(f"{where} gave more than {MAX_ANSWER} bytes; ask for less")
        try:
            parsed: object = json.loads(reply)
        except (ValueError, RecursionError):
            parsed = None
        if parsed is None:  # Outside the handler, whose error would quote the answer.
            raise ValueError(f"{where} gave no JSON; check the URL")
        return self._answer(parsed)

    def _fields(self) -> Mapping[str, str]:
        if callable(self._headers):
            return self._headers()
        missing = [variable for variable in self._headers.values() if variable not in os.environ]
        if missing:
            raise ConfigurationError(f"the environment variable {missing[0]} is not set; a detector needs it")
        return {name: os.environ[variable] for name, variable in self._headers.items()}
