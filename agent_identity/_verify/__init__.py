"""The entry points of verification, and the reconciliation of spans with their ledger."""
