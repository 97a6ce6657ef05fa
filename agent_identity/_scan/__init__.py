"""Hints about agents from code and configurations: what they declare, whether or not it ever ran."""
