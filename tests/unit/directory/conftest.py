"""Worlds with a fixed clock, spans in memory, and an auditor."""

from guard_world import no_context_leaks, opened, world

__all__ = ["no_context_leaks", "opened", "world"]
