"""Inputs of a verification: sources, trust, and accepted record versions."""
