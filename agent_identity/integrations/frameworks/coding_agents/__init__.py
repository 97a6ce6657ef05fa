"""Guards coding agents by their command hooks: each asks a running enforcer over a socket, and denies without it."""
