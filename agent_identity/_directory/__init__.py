"""An evidence directory: opening it, keys and their rotation, signers, publication, erasure."""
