"""The rule language: attributes, patterns, labels, and conditions with three answers."""
