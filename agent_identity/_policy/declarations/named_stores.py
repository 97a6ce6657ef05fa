"""Vector stores by collection, and mail by recipient."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from agent_identity._common.narrowing import is_plain_array
from agent_identity._common.typed_calls import typed
from agent_identity._policy.decision.resources import UNKNOWN, Access, CallTouches, DeclaredTouches, Touch
from agent_identity._policy.declarations._clear_names import ascii_domain, looks_secret, text_of

_MAX_RECIPIENTS: Final = 63
_DISPLAYED: Final = re.compile(r"[^<>@\"]*<([^<>]*)>|([^<>\"]*)")
_ADDRESS: Final = re.compile(r"([A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64})@([^@\s<>\"]{1,253})")


@typed
def vector_touches(
    argument: str,
    system: str,
    access: Access = "read",
    *,
    collections: Sequence[str] = (),
    data: Sequence[str] = (),
) -> CallTouches:
    """Declare the collection of a vector store that an argument names, for ``touches=``.

    For a collection that the code names, write ``Touch("qdrant://db:6333", "handbook", "read")``.

    Args:
        argument: The name of the argument with the collection.
        system: The store, as an OpenLineage namespace: ``qdrant://db:6333``.
        access: The kind of access.
        collections: Collections that stand in records in clear text; others are ``{argument}`` with a keyed digest.
        data: Labels of the data in the collection.

    Raises:
        TypeError: A text is no ``str``, or collections or labels are no list of texts.
        ValueError: The system, a collection, a label or the access is malformed.
    """
    unknown, other = Touch(system, UNKNOWN, access, data), Touch(system, f"{{{argument}}}", access, data)
    named = {name: Touch(system, name, access, data) for name in collections}

    def declare(arguments: Mapping[str, object]) -> Touch:
        name = text_of(arguments.get(argument))
        return named.get(name) or Touch(system, other.name, access, data, filled=name)

    return DeclaredTouches(declare, (argument,), unknown)


@typed
def mail_touches(*arguments: str, data: Sequence[str] = ()) -> CallTouches:
    """Declare the recipients of a mail that arguments name, for ``touches=``.

    For each recipient the system is ``mailto:`` and the domain, in clear text. Records have ``{argument}`` and a keyed
    digest of the address, its domain in lower case. What is no address is unknown, and so are recipients beyond 63.

    Args:
        arguments: The names of the arguments with the recipients, such as ``"to"`` and ``"cc?"``: a text with commas,
            or a list of texts. A call may leave out an argument with a question mark.
        data: Labels of the data in the mail.

    Raises:
        TypeError: A text is no ``str``, or labels are no list of texts.
        ValueError: There is no argument, or a label is malformed.
    """
    if not arguments:
        raise ValueError("no argument is named; name those with recipients, such as 'to' and 'cc?'")
    unknown = Touch("mailto", UNKNOWN, "send", data)
    names = [(name.removesuffix("?"), name.endswith("?")) for name in arguments]
    for name, _ in names:
        Touch("mailto", f"{{{name}}}", "send", data)  # Raises if it is no name.

    def declare(given: Mapping[str, object]) -> list[Touch]:
        found: list[Touch] = []
        for name, optional in names:
            if optional and given.get(name) in (None, "", [], ()):
                continue
            found += [_recipient(one, name, data) or unknown for one in _listed(given, name)] or [unknown]
        return found if len(found) <= _MAX_RECIPIENTS else [*found[:_MAX_RECIPIENTS], unknown]

    return DeclaredTouches(declare, tuple(name for name, _ in names), unknown)


def _listed(given: Mapping[str, object], name: str) -> list[str]:
    value = given.get(name)
    items = list(value)[: _MAX_RECIPIENTS + 1] if is_plain_array(value) else [value]
    texts = [text_of(item) if isinstance(item, str) and item else "" for item in items]
    return [part for text in texts for part in re.split("[,;]", text)[: _MAX_RECIPIENTS + 1]]


def _recipient(text: str, name: str, data: Sequence[str]) -> Touch | None:
    """Return the resource of one recipient; ``None`` for what is no address."""
    shown = _DISPLAYED.fullmatch(text.strip())
    address = None if shown is None else _ADDRESS.fullmatch(shown[1] or shown[2] or "")
    if address is None:
        return None
    try:
        domain = ascii_domain(address[2])
    except ValueError:
        return None
    if "." not in domain:
        return None
    system = "mailto" if looks_secret(domain) else f"mailto:{domain}"
    return Touch(system, f"{{{name}}}", "send", data, filled=f"{address[1]}@{domain}")
