"""Opening, delegating, exporting, accepting and resuming tasks."""
