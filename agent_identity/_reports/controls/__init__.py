"""Reports on controls: rows of frameworks, each with a named query over verified evidence and a status."""
