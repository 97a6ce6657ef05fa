"""Several reports from one pass over evidence."""
