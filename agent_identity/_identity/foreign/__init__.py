"""Verification of tokens and certificates that others issued: OpenID Connect, JWT, JWKS, SPIFFE."""
