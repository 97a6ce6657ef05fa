"""The form of cases: evidence with its verdict as data, as a whole or as what differs from another case."""

import base64
import difflib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Final

from insider import Content

from agent_identity._verify.report.findings import CODES

World = SimpleNamespace
"""A ledger that is not sealed yet, ``ledger``, and the lines in it by the names of their base."""

USUAL: Final = (".", "--trust", "trust.json")
"""How a case is verified unless it says otherwise: the arguments behind ``agent-identity verify``."""

_EXITS: Final = (("contradicted", 1), ("cannot_tell", 2), ("incomplete", 3))


@dataclass(frozen=True)
class Case:
    """Evidence and what a verifier must say of it.

    Attributes:
        name: Its name among all cases.
        what: What is in it, in one sentence.
        codes: The codes of all findings, one for each finding.
        content: Its files.
        base: The case from which most of it is taken.
        verify: The arguments behind ``agent-identity verify``, in the folder of the files.
    """

    name: str
    what: str
    codes: tuple[str, ...]
    content: Content
    base: "Case | None" = None
    verify: tuple[str, ...] = USUAL

    def to_json(self) -> dict[str, object]:
        """Return the case in plain values."""
        found = Counter(self.codes)
        severities = {CODES[code] for code in found}
        return {
            "name": self.name,
            "what": self.what,
            **({} if self.base is None else {"base": self.base.name}),
            "verify": list(self.verify),
            "exit": next((code for severity, code in _EXITS if severity in severities), 0),
            "findings": [[code, CODES[code], found[code]] for code in sorted(found)],
            "files": changed({} if self.base is None else self.base.content, self.content),
        }


class Cases(list[Case]):
    """The cases of a group, and how to make more of one."""

    def clean(
        self, name: str, what: str, world: World, *codes: str, verify: Iterable[str] = USUAL, base: Case | None = None
    ) -> Case:
        """Add a whole ledger."""
        case = Case(name, what, codes, world.ledger.content(), base, tuple(verify))
        self.append(case)
        return case

    def inside(
        self,
        base: tuple[Case, Callable[[], World]],
        name: str,
        what: str,
        codes: Iterable[str] | str,
        edit: Callable[[World], object],
        verify: Iterable[str] = USUAL,
    ) -> None:
        """Add what an insider with all keys makes of a base: changed before it is sealed."""
        case, make = base
        world = make()
        edit(world)
        self.append(Case(name, what, _listed(codes), world.ledger.content(), case, tuple(verify)))

    def outside(
        self,
        base: Case,
        name: str,
        what: str,
        codes: Iterable[str] | str,
        edit: Callable[[Content], object],
        verify: Iterable[str] = USUAL,
    ) -> None:
        """Add what somebody without keys makes of a base: changed files."""
        content = dict(base.content)
        edit(content)
        self.append(Case(name, what, _listed(codes), content, base, tuple(verify)))


def _listed(codes: Iterable[str] | str) -> tuple[str, ...]:
    return tuple(codes.split() if isinstance(codes, str) else codes)


def changed(base: Mapping[str, bytes], content: Mapping[str, bytes]) -> dict[str, object]:
    """Return the files that differ from those of the base; null for one that is gone."""
    found: dict[str, object] = {name: None for name in base if name not in content}
    for name, data in content.items():
        if data != base.get(name):
            found[name] = written(base.get(name, b""), data)
    return dict(sorted(found.items()))


def written(base: bytes, data: bytes) -> list[object]:
    """Return a file as its lines; lines of the base are named by their numbers, and bytes that are no text encoded."""
    before, now = base.splitlines(keepends=True), data.splitlines(keepends=True)
    if b"\n" not in data and _text(data) is None:
        return [{"base64": base64.b64encode(data).decode()}]
    out: list[object] = []
    for what, first, last, start, stop in difflib.SequenceMatcher(None, before, now, autojunk=False).get_opcodes():
        if what == "equal":
            out.append([first + 1, last])
        else:
            out += [_text(line) or {"base64": base64.b64encode(line).decode()} for line in now[start:stop]]
    return out


def _text(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def dumped(cases: Iterable[Case]) -> bytes:
    """Return cases as JSON for people: one line for each line of evidence."""
    return (json.dumps([case.to_json() for case in cases], indent=1, ensure_ascii=False) + "\n").encode()
