"""The command ``agent-identity``."""

from agent_identity.cli.program import main

__all__ = ["main"]
