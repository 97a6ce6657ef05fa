"""Spans of calls and tasks, spans of other libraries, and advice about their providers."""
