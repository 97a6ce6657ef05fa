"""Definitions of MCP tools over time: which changed, until when each change waited, and what was called meanwhile."""
