"""Ledgers on a faulty operating system, and an auditor of its own."""

from faulty_ledgers import audit, clock, crashed, directory, faulty, opened

__all__ = ["audit", "clock", "crashed", "directory", "faulty", "opened"]
