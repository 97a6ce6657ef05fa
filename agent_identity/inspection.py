"""Ready-made inspectors for :meth:`agent_identity.Enforcer.open`, and labels of information flow.

>>> from agent_identity.inspection import HiddenText, PersonalData
>>> inspectors = [HiddenText(), PersonalData("email", "iban")]
"""

from agent_identity._flow import Label, TaskMark
from agent_identity._inspection import (
    Canaries,
    Classifier,
    Detection,
    Document,
    HiddenText,
    HttpModel,
    InjectionHints,
    InspectorStream,
    Markers,
    Match,
    PersonalData,
    Progress,
    Secrets,
    Selected,
    StreamInspector,
    TextInspector,
    Urls,
    Windows,
)

__all__ = [
    "Canaries",
    "Classifier",
    "Detection",
    "Document",
    "HiddenText",
    "HttpModel",
    "InjectionHints",
    "InspectorStream",
    "Label",
    "Markers",
    "Match",
    "PersonalData",
    "Progress",
    "Secrets",
    "Selected",
    "StreamInspector",
    "TaskMark",
    "TextInspector",
    "Urls",
    "Windows",
]
