"""Ready-made inspectors for :meth:`agent_identity.Enforcer.open`, and labels of information flow.

>>> from agent_identity.inspection import HiddenText, PersonalData
>>> inspectors = [HiddenText(), PersonalData("email", "iban")]
"""

from agent_identity._flow import Label
from agent_identity._inspection import (
    Canaries,
    Document,
    HiddenText,
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
)

__all__ = [
    "Canaries",
    "Document",
    "HiddenText",
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
    "TextInspector",
    "Urls",
]
