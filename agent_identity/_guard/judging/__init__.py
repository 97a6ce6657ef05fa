"""The guard: where a call is judged, and where its intent and outcome are recorded."""
