"""Verification of authority: chains, usage of grants, limits, approvals, revoked keys."""
