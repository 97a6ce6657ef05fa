"""Ready-made inspectors for :meth:`agent_identity.Enforcer.open`, and labels of information flow.

>>> from agent_identity.inspection import HiddenText, PersonalData
>>> inspectors = [HiddenText(), PersonalData("email", "iban")]
"""

from agent_identity._flow import Label
from agent_identity._inspection import (
    Canaries,
    Classifier,
    Detection,
    Document,
    HiddenText,
    HttpModel,
    InjectionHints,
    Markers,
    Match,
    PersonalData,
    Secrets,
    Selected,
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
    "Label",
    "Markers",
    "Match",
    "PersonalData",
    "Secrets",
    "Selected",
    "TextInspector",
    "Urls",
    "Windows",
]
