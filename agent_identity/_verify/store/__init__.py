"""Workers and the spill store that bound the memory of a verification."""
