"""Humans, services and agents, and the principals of delegated tokens."""
