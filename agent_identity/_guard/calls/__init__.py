"""One call: arguments, limits, decision, and the request for approval."""
