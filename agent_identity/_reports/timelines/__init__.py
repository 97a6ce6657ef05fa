"""Timelines of tasks: who did what on whose behalf, through which chain."""
