"""Shared state behind one protocol: memory, SQLite, Redis, PostgreSQL, an evidence directory."""
