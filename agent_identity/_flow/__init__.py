"""Flows: labels of data, marks of tasks, the provenance of arguments, and the rules over them."""
