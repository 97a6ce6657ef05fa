"""Who: principals and agents, their keys, whom to trust, and the sources of time and identifiers."""
