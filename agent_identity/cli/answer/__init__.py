"""The commands that answer questions about evidence."""
