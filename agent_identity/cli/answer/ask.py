"""``agent-identity ask``: common questions, each an id, plain words, and the command that answers it."""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pkgutil import get_data
from typing import Final

import msgspec

from agent_identity.cli.answer.commands import ANSWER
from agent_identity.cli.terminal.command import loaded
from agent_identity.cli.terminal.parsing import chosen as parsed
from agent_identity.cli.terminal.style import Style, columns, hanging
from agent_identity.errors import ConfigurationError

OF: Final = "{of}"
"""Stands for the value of ``--of`` among the words of a command."""

SINCE: Final = "{since}"
"""Stands for the value of ``--since`` likewise."""


class Question(msgspec.Struct, frozen=True):
    """A question about evidence.

    Attributes:
        id: Its name.
        text: The question.
        words: The command without the evidence.
        of: What ``--of`` names, if the question is about one thing.
        note: What the answer needs, or leaves open.
    """

    id: str
    text: str
    words: tuple[str, ...]
    of: str = ""
    note: str = ""


class _Table(msgspec.Struct):
    questions: tuple[Question, ...]


QUESTIONS: Final = msgspec.toml.decode(get_data(__name__, "questions.toml") or b"", type=_Table).questions
"""All questions, in order."""


_FLAGS: Final = ("unverified", "json", "csv")
_VALUES: Final = {
    "trust": "trust",
    "start": "from",
    "stop": "until",
    "html": "html",
    "record_examination": "record-examination",
    "by": "by",
    "checkpoint": "checkpoint",
}


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    if chosen.id is None:
        _list(as_json=chosen.json)
        return 0
    question = _question(chosen.id)
    if not chosen.evidence:
        chosen.misused(f"the evidence is missing: agent-identity ask {question.id} EVIDENCE")
    if chosen.checkpoint is not None and not any(word.startswith("key:") for word in question.words):
        raise ConfigurationError(f"question {question.id} takes no --checkpoint; leave it out")
    options = [f"--{name}" for name in _FLAGS if getattr(chosen, name)]
    for name, option in _VALUES.items():
        value = getattr(chosen, name)
        options += [] if value is None else [f"--{option}={value}"]
    if chosen.processes:
        options.append(f"--processes={chosen.processes}")
    return answer(question.id, chosen.evidence, of=chosen.of, since=chosen.since, options=options)


def answer(
    name: str, evidence: Sequence[str], *, of: str | None = None, since: str | None = None, options: Sequence[str] = ()
) -> int:
    """Answer a question with the command that it stands for, and return its exit code.

    Args:
        name: The id of the question.
        evidence: The sources.
        of: What a question about one thing is about.
        since: The time of a question that has one.
        options: Further options of the command.

    Raises:
        ConfigurationError: The question lacks a value or has one too many.
    """
    found = parsed({"Answer": ANSWER}, command_of(_question(name), evidence, of=of, since=since, options=options))
    return loaded(found.work)(found)


def command_of(
    question: Question, evidence: Sequence[str], *, of: str | None, since: str | None, options: Sequence[str] = ()
) -> list[str]:
    """Return the words of the command that answers a question.

    Args:
        question: The question.
        evidence: The sources.
        of: What it is about.
        since: Its time.
        options: Further options of the command.

    Raises:
        ConfigurationError: The question lacks a value or has one too many.
    """
    name = question.id
    values = {OF: of, SINCE: since}
    for place, value in values.items():
        option, needed = place.strip("{}"), any(place in word for word in question.words)
        if needed and value is None:
            raise ConfigurationError(f"question {name} needs --{option} {_meaning(question, place)}")
        if value is not None and not needed:
            raise ConfigurationError(f"question {name} takes no --{option}; leave it out")
    words = [word.replace(OF, of or "").replace(SINCE, since or "") for word in question.words]
    return [*words[:2], *options, *_options_first(words[2:]), *evidence]


def _options_first(words: Sequence[str]) -> list[str]:
    """Return the words of a question with its options as one word each, and the others after ``--``."""
    given: list[str] = []
    rest: list[str] = []
    iterator = iter(words)
    for word in iterator:
        if word.startswith("--"):
            given.append(f"{word}={next(iterator)}")
        else:
            rest.append(word)
    return [*given, "--", *rest]


def _meaning(question: Question, place: str) -> str:
    return f"OF (OF: {question.of})" if place == OF else "TIME, such as 2026-11-24"


def _question(name: str) -> Question:
    found = next((question for question in QUESTIONS if question.id == name), None)
    if found is None:
        raise ConfigurationError(f"there is no question {name!r}; 'agent-identity ask' lists them, from 1 to 20")
    return found


def _list(*, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"questions": [_facts(question) for question in QUESTIONS]}))
        return
    style, room = Style(sys.stdout), columns(sys.stdout)
    for question in QUESTIONS:
        print(f"{question.id:>2}  {style.paint(hanging(question.text, 4, room), 'bold')}")
        notes = [f"OF: {question.of}"] if question.of else []
        notes += [question.note] if question.note else []
        note = f"  # {'; '.join(notes)}" if notes else ""
        print(f"    {style.paint(hanging(_shown(question) + note, 4, room), 'dim')}")
    print("\nagent-identity ask ID EVIDENCE... answers one; --of and --since stand for OF and SINCE.")


def _facts(question: Question) -> dict[str, object]:
    return {
        "id": question.id,
        "question": question.text,
        "command": _shown(question),
        "of": question.of or None,
        "note": question.note or None,
    }


def _shown(question: Question) -> str:
    """Return the command line as people read it, with capitals for what they fill in."""
    words = [word.replace(OF, "OF").replace(SINCE, "SINCE") for word in question.words]
    return shlex.join(["agent-identity", *words, "EVIDENCE"])
