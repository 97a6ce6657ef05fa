"""Adapters for agent frameworks: each guards the bodies of the tools that its framework calls."""
