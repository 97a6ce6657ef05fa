"""Verification of spans: attestations, mirrored attributes, members, coverage."""
