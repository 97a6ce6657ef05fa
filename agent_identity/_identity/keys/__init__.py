"""Ed25519 keys, key files, compact signatures (JWS), keys of JSON Web Tokens, cosigner keys."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._identity.keys.cosigners import Cosigner, check_note_name, note_key_id, split_vkey
    from agent_identity._identity.keys.jws import (
        ALGORITHM,
        MAX_TOKEN,
        TokenParts,
        par_hash,
        parse_compact,
        sign_compact,
        token_hash,
        verify_compact,
    )
    from agent_identity._identity.keys.jwt_keys import JwtAlgorithm, JwtKey, JwtSigner, as_jwt_signer, jwk_thumbprint
    from agent_identity._identity.keys.keys import PublicKey, Signer, SigningKey
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._identity.keys.cosigners": ("Cosigner", "check_note_name", "note_key_id", "split_vkey"),
            "agent_identity._identity.keys.jws": (
                "ALGORITHM",
                "MAX_TOKEN",
                "TokenParts",
                "par_hash",
                "parse_compact",
                "sign_compact",
                "token_hash",
                "verify_compact",
            ),
            "agent_identity._identity.keys.jwt_keys": (
                "JwtAlgorithm",
                "JwtKey",
                "JwtSigner",
                "as_jwt_signer",
                "jwk_thumbprint",
            ),
            "agent_identity._identity.keys.keys": ("PublicKey", "Signer", "SigningKey"),
        },
    )

__all__ = [
    "ALGORITHM",
    "MAX_TOKEN",
    "Cosigner",
    "JwtAlgorithm",
    "JwtKey",
    "JwtSigner",
    "PublicKey",
    "Signer",
    "SigningKey",
    "TokenParts",
    "as_jwt_signer",
    "check_note_name",
    "jwk_thumbprint",
    "note_key_id",
    "par_hash",
    "parse_compact",
    "sign_compact",
    "split_vkey",
    "token_hash",
    "verify_compact",
]
