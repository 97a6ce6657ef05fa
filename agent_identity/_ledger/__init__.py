"""Keeps: records, the ledger they are written to, and the proofs that nothing in it was changed."""
