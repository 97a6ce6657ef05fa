"""Proofs, disclosures and bundles: made from a ledger, checked without it."""
