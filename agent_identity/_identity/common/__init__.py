"""Clocks, identifiers, names, encodings, periods, and files with owners and modes."""
