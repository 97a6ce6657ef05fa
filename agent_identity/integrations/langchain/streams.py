"""Streams of agents and graphs, bound to the task in which they were made."""

from agent_identity._enforcement.lifecycle import bind_stream

__all__ = ["bind_stream"]
