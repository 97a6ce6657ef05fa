"""Disclosure files: arguments of one call, which can be checked against its record.

A file names the record and has one entry for each argument, in the order of their names: the argument with its
salt, or the hash that stands for an argument that is not shown. Of records whose arguments have one digest as a
whole, a file can only show all of them, with the key of the task.

Files come from outside: sizes are bounded, and each has one accepted spelling.
"""

import hmac
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self, final

from agent_identity import canonical
from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity._identity.common.ids import DIGEST_FORM
from agent_identity._record.commitments import is_salted, leaf, part, root, salts
from agent_identity._record.parts import Action
from agent_identity._record.schema import AnyRecord, Approval, Intent, Outcome
from agent_identity._storage.mac import Mac
from agent_identity.canonical import JSON
from agent_identity.errors import VerificationError

MAX_DISCLOSURE_BYTES: Final = 64 * 1024 * 1024
"""A file may have this many bytes: what arguments may have, escaped."""

_VERSION: Final = "1"
_MAX_ARGUMENTS: Final = 256
_HASH: Final = re.compile(DIGEST_FORM)
_SHOWN: Final = {"name", "value", "salt"}
_WHOLE: Final = {"name", "value"}


@final
@dataclass(frozen=True, slots=True)
class Disclosure:
    """Some or all arguments of one call, unverified.

    Attributes:
        record: The id of the record.
        shown: The arguments that are shown, by name.
        salts: The salt of each of them; empty with a key.
        leaves: The commitments to all arguments of the call, in the order of their names; empty with a key.
        key: The key of the task, for a record with one digest of all arguments.
    """

    record: str
    shown: Mapping[str, JSON]
    salts: Mapping[str, bytes]
    leaves: tuple[bytes | None, ...]
    key: bytes | None = None

    @classmethod
    def of(cls, record: AnyRecord, arguments: Mapping[str, JSON], key: bytes, names: Collection[str] | None) -> Self:
        """Return a disclosure of arguments of a call.

        Args:
            record: The intent or outcome.
            arguments: All arguments of the call that are not opaque.
            key: The key of its task.
            names: Those to show; ``None`` for all.

        Raises:
            VerificationError: The record has no digest of arguments (``no_arguments``), has them under one digest
                only (``not_disclosable``), or is of other arguments than these (``other_arguments``); or the call
                has no such argument (``unknown_argument``).
        """
        known = _names_of(record, arguments)
        if names is not None and (unknown := sorted(set(names) - set(known))):
            raise VerificationError(
                f"the call has no argument {unknown[0][:64]!a}; it has: {', '.join(known)[:512]}",
                code="unknown_argument",
            )
        whole = not is_salted(_digest(record))
        if whole and names is not None and set(names) != set(known):
            raise VerificationError(
                "the record has one digest of all arguments; show them all, or open the enforcer with "
                "Privacy(disclosable=True)",
                code="not_disclosable",
            )
        parts = _parts(arguments)
        disclosure: Self
        if whole:
            disclosure = cls(record.id, arguments, {}, (), key)
        else:
            salted = dict(zip(sorted(arguments), salts(Mac(key), parts), strict=True))
            leaves = [leaf(salt, data) for salt, data in zip(salted.values(), parts, strict=True)]
            shown = [name for name in sorted(arguments) if names is None or name in names]
            hidden = tuple(None if name in shown else hashed for name, hashed in zip(salted, leaves, strict=True))
            disclosure = cls(
                record.id, {name: arguments[name] for name in shown}, {name: salted[name] for name in shown}, hidden
            )
        disclosure.check(record)
        return disclosure

    def check(self, record: AnyRecord) -> None:
        """Check that the record commits to these arguments.

        Args:
            record: The record; whether it is proved, is for the caller to say.

        Raises:
            VerificationError: It is another record (``other_record``), has no digest of arguments
                (``no_arguments``), or is of other arguments (``other_arguments``); or it needs a disclosure of the
                other form (``not_disclosable``).
        """
        if record.id != self.record:
            raise VerificationError(
                "the disclosure is of another record; give the record that it names", code="other_record"
            )
        expected, names = _digest(record), _stated_names(record)
        if is_salted(expected) is (self.key is not None):
            raise VerificationError(
                "the record has the other form of digest than the disclosure; make the disclosure again "
                "from the record",
                code="not_disclosable",
            )
        if self.key is not None:
            digest = b64url_encode(Mac(self.key).of(canonical.encode(self.shown)))
            fits = names in (None, tuple(sorted(self.shown))) and hmac.compare_digest(digest, expected)
        else:
            fits = self._fits(names) and hmac.compare_digest(root(self._leaves()), expected)
        if not fits:
            raise VerificationError(
                "the arguments are not those that ran, which the record commits to", code="other_arguments"
            )

    def _fits(self, names: Sequence[str] | None) -> bool:
        """Return whether the position of each argument matches its name in the record, if the record has names."""
        if names is None:
            return True  # The digest is over names and values, and over their number and order.
        if len(names) != len(self.leaves):
            return False
        shown = [name for name, hashed in zip(names, self.leaves, strict=True) if hashed is None]
        return shown == sorted(self.shown)

    def _leaves(self) -> list[bytes]:
        shown = (leaf(self.salts[name], part(name, self.shown[name])) for name in sorted(self.shown))
        return [next(shown) if hashed is None else hashed for hashed in self.leaves]

    @property
    def hidden(self) -> int:
        """Number of arguments of the call that are not shown."""
        return sum(hashed is not None for hashed in self.leaves)

    def to_bytes(self) -> bytes:
        """Return the file: one line of canonical JSON."""
        entries: list[JSON] = []
        names = iter(sorted(self.shown))
        for hashed in self.leaves or (None,) * len(self.shown):
            if hashed is not None:
                entries.append({"hash": b64url_encode(hashed)})
                continue
            name = next(names)
            entry: dict[str, JSON] = {"name": name, "value": self.shown[name]}
            if self.key is None:
                entry["salt"] = b64url_encode(self.salts[name])
            entries.append(entry)
        file: dict[str, JSON] = {"v": _VERSION, "disclosure": {"record": self.record, "arguments": entries}}
        if self.key is not None:
            file["key"] = b64url_encode(self.key)
        return canonical.encode(file) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the disclosure in a file.

        Raises:
            VerificationError: The file is malformed or too large (``bad_disclosure``).
        """
        if len(data) > MAX_DISCLOSURE_BYTES:
            message = f"malformed disclosure: it is larger than {MAX_DISCLOSURE_BYTES} bytes"
            raise VerificationError(message, code="bad_disclosure")
        try:
            return cls._from_file(canonical.decode(data.removesuffix(b"\n")))
        except ValueError as error:
            raise VerificationError(f"malformed disclosure: {error}", code="bad_disclosure") from None

    @classmethod
    def _from_file(cls, file: JSON) -> Self:
        members = _object(file, {"v", "disclosure"}, {"key"})
        if members["v"] != _VERSION:
            raise ValueError(f"its version is not {_VERSION}")
        key = None if "key" not in members else _hash(members["key"])
        stated = _object(members["disclosure"], {"record", "arguments"})
        record, entries = stated["record"], stated["arguments"]
        if not isinstance(record, str) or not isinstance(entries, list) or len(entries) > _MAX_ARGUMENTS:
            raise ValueError(f"it does not have the id of a record, and an array of at most {_MAX_ARGUMENTS} arguments")
        shown: dict[str, JSON] = {}
        salted: dict[str, bytes] = {}
        leaves: list[bytes | None] = []
        for entry in entries:
            if key is None and isinstance(entry, Mapping) and "hash" in entry:
                leaves.append(_hash(_object(entry, {"hash"})["hash"]))
                continue
            argument = _object(entry, _WHOLE if key is not None else _SHOWN)
            name = argument["name"]
            if not isinstance(name, str) or (shown and name <= max(shown)):
                raise ValueError("an argument has no name, or one that is repeated or out of order")
            shown[name] = argument["value"]
            if key is None:
                salted[name] = _hash(argument["salt"])
                leaves.append(None)
        return cls(record, shown, salted, tuple(leaves), key)


def names_arguments(record: AnyRecord) -> bool:
    """Return whether a record lists its argument names; outcomes leave them to the intent."""
    return not isinstance(record, Outcome)


def _names_of(record: AnyRecord, arguments: Mapping[str, JSON]) -> tuple[str, ...]:
    """Return the argument names of a call: those that its record states, or else the given ones."""
    stated = _stated_names(record)
    return tuple(sorted(arguments)) if stated is None else stated


def _stated_names(record: AnyRecord) -> tuple[str, ...] | None:
    return argument_names(record) if names_arguments(record) else None


def argument_names(record: AnyRecord) -> tuple[str, ...]:
    """Return the names of the arguments of a call that are not opaque, in their order.

    Args:
        record: The record, as a rule an intent or outcome.
    """
    return tuple(name for name, _ in argument_kinds(record))


def argument_kinds(record: AnyRecord) -> list[tuple[str, str]]:
    """Return names and kinds of the arguments of a call that are not opaque, in the order of the names.

    Args:
        record: The record, as a rule an intent or outcome.
    """
    action = action_of(record)
    entries = (entry.rpartition(":") for entry in (() if action is None else action.names or ()))
    return sorted((name, kind) for name, _, kind in entries if kind != "opaque")


def action_of(record: AnyRecord) -> Action | None:
    """Return the action that was called, or that an approval is about; ``None`` for other records."""
    return record.action if isinstance(record, Intent | Outcome | Approval) else None


def _digest(record: AnyRecord) -> str:
    action = action_of(record)
    digest = None if action is None else action.args
    if digest is None:
        raise VerificationError(
            "the record has no digest of arguments; name the record of a call with arguments", code="no_arguments"
        )
    return digest


def _parts(arguments: Mapping[str, JSON]) -> list[bytes]:
    try:
        return [part(name, arguments[name]) for name in sorted(arguments)]
    except ValueError as error:
        raise VerificationError(f"an argument is not JSON: {error}", code="other_arguments") from None


def _object(value: JSON, required: Collection[str], optional: Collection[str] = ()) -> Mapping[str, JSON]:
    if not isinstance(value, Mapping) or not set(required) <= value.keys() <= {*required, *optional}:
        raise ValueError(f"a part is not an object with {', '.join(sorted(required))}")
    return value


def _hash(value: JSON) -> bytes:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise ValueError("a hash is not 43 base64url characters")
    return b64url_decode(value)
