"""Helpers that every room uses: checks of values from outside, argument types, lazy exports."""
