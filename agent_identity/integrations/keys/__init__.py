"""Keys in hardware tokens and key management services."""
