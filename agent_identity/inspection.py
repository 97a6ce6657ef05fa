"""Ready-made inspectors for :meth:`agent_identity.Enforcer.open`, and labels of information flow.

>>> from agent_identity.inspection import HiddenText, PersonalData
>>> inspectors = [HiddenText(), PersonalData("email", "iban")]
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._flow.labels import Label
    from agent_identity._inspection.classifier import Classifier, Windows
    from agent_identity._inspection.hidden import HiddenText
    from agent_identity._inspection.http_model import HttpModel
    from agent_identity._inspection.inspector import Match, TextInspector
    from agent_identity._inspection.personal import PersonalData
    from agent_identity._inspection.phrases import Canaries, InjectionHints, Markers
    from agent_identity._inspection.running import Selected
    from agent_identity._inspection.secret_tokens import Secrets
    from agent_identity._inspection.stream_windows import Progress
    from agent_identity._inspection.urls import Urls
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._flow.labels": ("Label",),
            "agent_identity._inspection.classifier": ("Classifier", "Windows"),
            "agent_identity._inspection.hidden": ("HiddenText",),
            "agent_identity._inspection.http_model": ("HttpModel",),
            "agent_identity._inspection.inspector": ("Match", "TextInspector"),
            "agent_identity._inspection.personal": ("PersonalData",),
            "agent_identity._inspection.phrases": ("Canaries", "InjectionHints", "Markers"),
            "agent_identity._inspection.running": ("Selected",),
            "agent_identity._inspection.secret_tokens": ("Secrets",),
            "agent_identity._inspection.stream_windows": ("Progress",),
            "agent_identity._inspection.urls": ("Urls",),
        },
    )

__all__ = [
    "Canaries",
    "Classifier",
    "HiddenText",
    "HttpModel",
    "InjectionHints",
    "Label",
    "Markers",
    "Match",
    "PersonalData",
    "Progress",
    "Secrets",
    "Selected",
    "TextInspector",
    "Urls",
    "Windows",
]
