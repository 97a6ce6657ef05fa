"""Meets: the one place where identity, authority, policy and evidence meet at run time."""
