"""Failures, work off the event loop, and the HTTP transport."""
