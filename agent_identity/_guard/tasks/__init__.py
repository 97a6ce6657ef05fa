"""The task, its place in the context, exported grants and delegation bundles."""
