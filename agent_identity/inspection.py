"""Ready-made inspectors for :meth:`agent_identity.Enforcer.open`, and labels of information flow.

>>> from agent_identity.inspection import HiddenText, PersonalData
>>> inspectors = [HiddenText(), PersonalData("email", "iban")]
"""

from agent_identity._flow.labels import Label
from agent_identity._flow.mark import TaskMark
from agent_identity._inspection.classifier import Classifier, Detection, Windows
from agent_identity._inspection.document import Document
from agent_identity._inspection.hidden import HiddenText
from agent_identity._inspection.http_model import HttpModel
from agent_identity._inspection.inspector import Match, TextInspector
from agent_identity._inspection.personal import PersonalData
from agent_identity._inspection.phrases import Canaries, InjectionHints, Markers
from agent_identity._inspection.running import Selected
from agent_identity._inspection.secret_tokens import Secrets
from agent_identity._inspection.stream_windows import InspectorStream, Progress, StreamInspector
from agent_identity._inspection.urls import Urls

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
