"""Commands about keys, and about other parties that vouch for a log."""
