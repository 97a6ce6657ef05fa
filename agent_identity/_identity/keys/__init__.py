"""Ed25519 keys, key files, compact signatures (JWS), keys of JSON Web Tokens, cosigner keys."""
