"""Looks: inspectors of content, and redaction of results."""
