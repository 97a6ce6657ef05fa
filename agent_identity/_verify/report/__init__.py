"""The report of a verification: verdicts, findings, periods."""
