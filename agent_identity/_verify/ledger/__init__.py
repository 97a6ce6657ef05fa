"""Verification of a ledger: log, streams, calls, pruning, certificates, external evidence."""
