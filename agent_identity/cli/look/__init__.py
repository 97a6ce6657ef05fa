"""Commands that show what the evidence says."""
