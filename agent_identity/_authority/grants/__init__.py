"""Scopes, limits, grants, chains of grants, and proofs of possession."""
