"""Verifies several hosts in one verdict: what their logs say about each other, and the merge of their results."""
