"""Tokens for other services: sources, token exchange (RFC 8693), signed JWTs."""
