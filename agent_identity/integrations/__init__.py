"""Integrations by framework, each imported by its full path; the rest of the library imports none of them."""
