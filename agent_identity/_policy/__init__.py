"""Judges: requests to decisions, by rules in Python or in a policy file."""
