"""Pinned MCP servers and their tool definitions."""
