"""Commands that show the evidence."""
