"""Commands that verify evidence, and hand parts of it to others."""
