"""Looks: inspectors of content, and redaction of results."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._inspection.canaries import Canaries
    from agent_identity._inspection.classifier import Classifier, Detection, Windows
    from agent_identity._inspection.document import Document, is_readable
    from agent_identity._inspection.held_streams import HeldStream, ReadyItems, readable
    from agent_identity._inspection.hidden import HiddenText
    from agent_identity._inspection.hints import InjectionHints
    from agent_identity._inspection.http_model import HttpModel
    from agent_identity._inspection.inspector import Match, TextInspector, inspect_texts
    from agent_identity._inspection.markers import Markers
    from agent_identity._inspection.personal import PersonalData
    from agent_identity._inspection.running import Inspection, Selected, prepare
    from agent_identity._inspection.secret_tokens import Secrets
    from agent_identity._inspection.stream_windows import InspectorStream, Progress, StreamInspector
    from agent_identity._inspection.transform import (
        QUARANTINES,
        VERSION,
        Edits,
        Tokenize,
        UnmetError,
        edits_of,
        transformed,
    )
    from agent_identity._inspection.urls import Urls
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._inspection.canaries": ("Canaries",),
            "agent_identity._inspection.classifier": ("Classifier", "Detection", "Windows"),
            "agent_identity._inspection.document": ("Document", "is_readable"),
            "agent_identity._inspection.held_streams": ("HeldStream", "ReadyItems", "readable"),
            "agent_identity._inspection.hidden": ("HiddenText",),
            "agent_identity._inspection.hints": ("InjectionHints",),
            "agent_identity._inspection.http_model": ("HttpModel",),
            "agent_identity._inspection.inspector": ("Match", "TextInspector", "inspect_texts"),
            "agent_identity._inspection.markers": ("Markers",),
            "agent_identity._inspection.personal": ("PersonalData",),
            "agent_identity._inspection.running": ("Inspection", "Selected", "prepare"),
            "agent_identity._inspection.secret_tokens": ("Secrets",),
            "agent_identity._inspection.stream_windows": ("InspectorStream", "Progress", "StreamInspector"),
            "agent_identity._inspection.transform": (
                "QUARANTINES",
                "VERSION",
                "Edits",
                "Tokenize",
                "UnmetError",
                "edits_of",
                "transformed",
            ),
            "agent_identity._inspection.urls": ("Urls",),
        },
    )

__all__ = [
    "QUARANTINES",
    "VERSION",
    "Canaries",
    "Classifier",
    "Detection",
    "Document",
    "Edits",
    "HeldStream",
    "HiddenText",
    "HttpModel",
    "InjectionHints",
    "Inspection",
    "InspectorStream",
    "Markers",
    "Match",
    "PersonalData",
    "Progress",
    "ReadyItems",
    "Secrets",
    "Selected",
    "StreamInspector",
    "TextInspector",
    "Tokenize",
    "UnmetError",
    "Urls",
    "Windows",
    "edits_of",
    "inspect_texts",
    "is_readable",
    "prepare",
    "readable",
    "transformed",
]
