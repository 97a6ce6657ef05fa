"""Model calls of the SDK under guard: prompts are inspected before they are sent, answers before anybody reads them."""

from typing import Any
from agents import Model, ModelProvider
def protect_model(model, enforcer, *, name="chat"):
    raise NotImplementedError
