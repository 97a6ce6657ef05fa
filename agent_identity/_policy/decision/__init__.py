"""The decision input and the decision: request, content, finding, resource, effect."""
