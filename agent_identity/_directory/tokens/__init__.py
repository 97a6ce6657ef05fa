"""Tokens that a task gets for other services."""
