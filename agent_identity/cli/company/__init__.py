"""A small company at work for a month, for the command ``demo``: real enforcer, its own clock, ids and keys."""
