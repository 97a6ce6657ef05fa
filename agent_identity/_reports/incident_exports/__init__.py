"""Exports of an incident for the tools of responders."""
