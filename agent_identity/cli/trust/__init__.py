"""Commands for keys, and for other parties that vouch for a log."""
