"""The questions that ``ask`` puts: an id, plain words, and the command that each stands for."""

from typing import Final, NamedTuple

OF: Final = "{of}"
"""Stands for the value of ``--of`` among the words of a command."""

SINCE: Final = "{since}"
"""Stands for the value of ``--since`` likewise."""


class Question(NamedTuple):
    """A question about evidence.

    Attributes:
        id: Its name.
        text: The question.
        words: The command without the evidence; empty if nothing answers it yet.
        of: What ``--of`` names, if the question is about one thing.
        note: What the answer needs, or leaves open; of a question without a command, what is missing.
    """

    id: str
    text: str
    words: tuple[str, ...]
    of: str = ""
    note: str = ""


_INVENTORY: Final = ("report", "inventory")
_SCOPE: Final = ("report", "scope")

QUESTIONS: Final = (
    Question("1", "Which agents, servers, tools and models exist, who owns them, and when were they seen?", _INVENTORY),
    Question(
        "2", "Which of them are not guarded, not registered, or without an owner?", _INVENTORY, note="give traces too"
    ),
    Question("3", "What is new since a date, and what is gone?", (*_INVENTORY, "--since", SINCE)),
    Question("4", "Which agents are idle, and when was each last seen?", _INVENTORY),
    Question(
        "5",
        "Who delegated what to whom?",
        ("report", "incident", OF),
        "agent:ID or principal:ID",
        "authority at each hop",
    ),
    Question(
        "6",
        "What was done on behalf of a person, or with their approval?",
        ("report", "incident", f"principal:{OF}"),
        "ID",
    ),
    Question(
        "7", "Who authorized a call, and with what at each hop?", ("report", "incident", f"record:{OF}"), "record ID"
    ),
    Question("8", "What was granted and never used, by agent and tool?", _SCOPE),
    Question("9", "What was tried outside the scope, how often, and with which argument?", _SCOPE),
    Question("10", "What is the smallest scope that would have sufficed, and what would it refuse?", _SCOPE),
    Question("11", "What does a version of an agent do that the one before did not?", _SCOPE),
    Question("12", "Which systems and data did agents read, write and send?", ("report", "data")),
    Question(
        "13",
        "What touched a resource?",
        ("report", "data", "--resource", OF),
        "name, template or keyed digest",
    ),
    Question(
        "14",
        "What happened, in order, over all streams and sources?",
        ("report", "incident", OF),
        "everything, task:ID or span:ID",
        "a period with --from and --until",
    ),
    Question(
        "15", "What could be done under a grant, and what was?", ("report", "incident", f"grant:{OF}"), "grant hash"
    ),
    Question(
        "16",
        "What happened under a key after it was stolen?",
        ("report", "incident", f"key:{OF}", "--after", SINCE),
        "key thumbprint",
    ),
    Question(
        "17",
        "Which calls never ended, what began after a revocation, and how long did that take?",
        ("report", "incident", "everything"),
    ),
    Question(
        "18",
        "Which tool definitions changed, who accepted that, and which calls ran in between?",
        ("report", "incident", OF),
        "server:NAME, tool:NAME, definition:DIGEST or everything",
        "changed tool definitions, with what was stated at acceptance",
    ),
    Question("19", "Which share of all tool calls does a verified human answer for?", ("report", "coverage")),
    Question(
        "20",
        "For a clause of a law or framework and a period: what is shown, and what is not?",
        ("report", "controls"),
        note="a period with --from and --until",
    ),
)
"""All questions, in order."""
