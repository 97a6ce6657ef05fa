"""Approvals: the service, its inbox, the terminal, and what the ledger keeps of them."""
