"""Shared parts of all commands: names of sources, and text for people."""
