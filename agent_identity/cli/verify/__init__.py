"""Commands that verify evidence and share parts of it."""
