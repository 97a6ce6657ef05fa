"""CrewAI: ``protect(crew, enforcer)`` guards the tools of a crew, and those that CrewAI makes for a run.

Needs the extra ``crewai``.
"""

try:
    from agent_identity.integrations.frameworks.crewai.protection import instrument, never_cached, protect
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "crewai":
        raise
    raise ImportError("crewai is not installed; run pip install '.[crewai]' in the checkout") from error

__all__ = ["instrument", "never_cached", "protect"]
