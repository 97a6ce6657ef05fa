"""Answers: what is proved, what is missing, and who did what on whose behalf; offline, with public keys only."""
