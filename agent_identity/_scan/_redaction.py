"""Removes secrets from commands, arguments and addresses before they become part of a result."""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, urlsplit

MASK: Final = "***"

_LONGEST: Final = 200
_LONGEST_WORD: Final = 400
_ARGUMENTS: Final = 32
_LONGEST_TEXT: Final = 4_096
_SECRET_NAME: Final = re.compile(
    r"key|token|secret|passw|passphrase|auth|bearer|credential|cookie|signature|session|licen[cs]e|\bpat\b"
    r"|(?<![a-z])(?:pass|pwd?|pin|otp|sid|dsn)(?![a-z])",
    re.IGNORECASE,
)
_VALUE_FLAGS: Final = frozenset({"-H", "--header", "--headers", "-u", "--user", "-p", "-P", "-k"})
_PREFIXED: Final = re.compile(
    r"(?<![a-z])(?:sk|pk|rk)[-_][\w-]{8,}|gh[opsur]_\w{8,}|github_pat_\w{8,}|glpat-[\w-]{8,}|xox[a-z]-[\w-]{6,}|hf_\w{8,}"
    r"|A[KS]IA[0-9A-Z]{12,}|AIza[\w-]{20,}|eyJ[\w-]{8,}(?:\.[\w-]*)*|tvly-[\w-]{8,}|lsv2_\w{8,}|npm_\w{16,}|dapi[0-9a-f]{16,}"
    r"|-----BEGIN[^-]*-----"
)
_RANDOM: Final = re.compile(r"(?=[\w+/=-]*\d)(?=[\w+/=-]*[A-Za-z])[A-Za-z0-9_+/=-]{20,}")
_WORDS: Final = re.compile(r"[a-z]{3,}(?:[-_/][a-z0-9]{1,})+", re.IGNORECASE)
_ASSIGNMENT: Final = re.compile(r"(-{0,2}[A-Za-z_][\w.-]*)=(.*)", re.DOTALL)
_SEPARATOR: Final = re.compile("[:=]")
_SCHEMES: Final = frozenset({"bearer", "basic"})
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)


def label(text: str) -> str:
    """Return a name for a result: one line, bounded, without what looks like a known kind of token."""
    return _PREFIXED.sub(MASK, " ".join(text[: _LONGEST * 4].split()))[:_LONGEST]


def address(text: str) -> str:
    """Return scheme, host, port and path of a URL; what may hold a credential is left out or masked."""
    text = text.strip()
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return MASK
    if not parts.scheme or not parts.netloc:
        return _masked(text)[:_LONGEST]
    return _joined(parts, port)[:_LONGEST]


def _joined(parts: SplitResult, port: int | None) -> str:
    host = parts.hostname or ""
    path = "/".join(_masked(part) for part in parts.path.split("/"))
    end = f"{path}?{MASK}" if parts.query else path
    return f"{parts.scheme}://{_masked(host)}{'' if port is None else f':{port}'}{end}"


def command_line(command: str, arguments: Sequence[str]) -> str:
    """Return a command with its arguments; secrets, values of variables and of headers are masked.

    An argument of several words, such as a line for a shell, is judged word by word.
    """
    shown: list[str] = []
    hide = False
    words = [word for text in [command, *arguments[:_ARGUMENTS]] for word in text[:_LONGEST_TEXT].split()]
    for word in words[:_ARGUMENTS]:
        shown.append(MASK if hide and not word.startswith("--") else _argument(word))
        hide = _hides_next(word)
    if len(words) > _ARGUMENTS:
        shown.append("…")
    return " ".join(shown)[:_LONGEST]


def _hides_next(word: str) -> bool:
    secret = _SECRET_NAME.search(word)
    if word in _VALUE_FLAGS or word.lower() in _SCHEMES or word.endswith(":"):
        return True
    return word.startswith("-") and "=" not in word and secret is not None


def _argument(word: str) -> str:
    if _URL.fullmatch(word):
        return address(word)
    assigned = _ASSIGNMENT.fullmatch(word)
    if assigned is not None:
        name, value = assigned.groups()
        plain = name.startswith("-") and not _SECRET_NAME.search(name)
        return f"{_masked(name)}={_argument(value) if plain else MASK}"
    secret = _SECRET_NAME.search(word)
    mark = None if secret is None else _SEPARATOR.search(word, secret.end())
    return _masked(word) if mark is None else _masked(word[: mark.start()]) + mark.group() + MASK


def _masked(word: str) -> str:
    """Return the word, or the mask for what looks like a token; long words are masked unseen, which bounds the work."""
    if len(word) > _LONGEST_WORD:
        return MASK
    word = _URL.sub(lambda found: address(found.group()), word) if "://" in word else word
    if _PREFIXED.search(word):
        return _PREFIXED.sub(MASK, word)
    return _RANDOM.sub(lambda found: found.group() if _is_words(found.group()) else MASK, word)


def _is_words(text: str) -> bool:
    """Tell whether a long word is made of words, as names of packages and paths are."""
    parts = re.split(r"[-_/+=]", text)
    odd = [part for part in parts if (any(c.isdigit() for c in part) and len(part) > 8) or len(part) > 24]
    return len(parts) > 1 and not odd and not re.fullmatch(r"[0-9a-fA-F-]{32,}", text)
