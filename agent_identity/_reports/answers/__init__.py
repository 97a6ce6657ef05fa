"""Answers: questions about evidence, each over one pass that verifies it as well, with typed results.

The question functions take an :class:`Evidence` and return a frozen result with a :class:`Frame`, which says how far
the answer can be believed and what it does not show.
"""
