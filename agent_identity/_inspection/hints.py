"""Hints of prompt injection: wordings that injections often have, and honest texts sometimes."""

import re
from collections.abc import Iterable
from typing import Final, final

from agent_identity._inspection.document import Document
from agent_identity._inspection.inspector import Match, TextInspector

_OLD: Final = (
    r"(?:all |any |the |your |my |of |these |those )*(?:previous|prior|above|earlier|preceding|former|original)"
)
_RULES: Final = r"(?:instructions?|prompts?|rules?|directions?|guidelines?|messages?|context|constraints?)"
_HINTS: Final = tuple(
    (f"injection.{kind}", re.compile(pattern, re.IGNORECASE))
    for kind, pattern in {
        "override": rf"\b(?:ignore|disregard|forget|override|bypass) {_OLD} {_RULES}",
        "role": r"\byou are (?:now|no longer) (?:a|an|the|in|bound)\b|\b(?:developer|debug|god|dan|jailbreak) mode\b",
        "chat_markup": r"<\|(?:im_start|im_end|system|user|assistant|endoftext)\|>|\[/?INST\]|<</?SYS>>"
        r"|^#{2,4} ?(?:system|instruction)s?:?$",
        "prompt_leak": r"\b(?:reveal|print|repeat|show|output) (?:me )?(?:your|the) (?:system|hidden|initial) prompt\b",
        "urgent": r"\b(?:important|urgent|attention)[ !:.<-]{1,8}(?:ai|assistant|llm|agent|model)s?\b"
        r"|<(?:important|system|instructions?)>",
        "conceal": r"\bdo not (?:tell|inform|mention|notify|alert)(?: this)?(?: to)? (?:the )?(?:user|human|owner)\b",
    }.items()
)


@final
class InjectionHints(TextInspector):
    """Finds wordings of known prompt injections; categories ``injection.<kind>``.

    They are hints: most injections are worded otherwise, and texts about security are worded so. A policy cannot
    block on them alone; a rule that would have blocked warns. Route, or warn.
    """

    name = "injection_hints"
    advisory = True
    longest = 1_024

    def find(self, document: Document) -> Iterable[Match]:
        """Return the hints in a text.

        Args:
            document: The text.
        """
        text = document.text
        for category, pattern in _HINTS:
            for found in pattern.finditer(text.plain):
                yield Match(category, *text.span(*found.span()), "low", "low")
