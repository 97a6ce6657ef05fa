"""Streams of agents and graphs, bound to the task in which they were made."""

from agent_identity.adapters import bind_stream

__all__ = ["bind_stream"]
