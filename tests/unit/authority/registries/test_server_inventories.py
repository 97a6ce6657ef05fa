"""Inventories of servers: signed, whole, and of a version that is known."""

import pytest

from agent_identity._authority.registries.server_inventories import INVENTORY_TYPE, INVENTORY_VERSION, open_inventory
from agent_identity._identity.common.encoding import digest_of
from agent_identity._identity.keys.jws import sign_compact
from agent_identity.canonical import encode
from agent_identity.errors import TokenError
from agent_identity.identity import SigningKey, TrustedKey, TrustStore

KEY = SigningKey.from_seed(b"i" * 32)
TRUST = TrustStore((TrustedKey(KEY.public_key, "issuer"),))


def _inventory(body: bytes, number: int = 3) -> bytes:
    claims = {"number": number, "digest": digest_of(body)}
    token = sign_compact({"kid": KEY.public_key.thumbprint, "typ": INVENTORY_TYPE}, claims, KEY)
    return token.encode() + b"\n" + body + b"\n"


def test_a_signed_inventory_is_opened() -> None:
    """Its number and its servers come back."""
    assert open_inventory(_inventory(encode({"servers": {"files": {}}, "v": INVENTORY_VERSION})), TRUST) == (
        3,
        {"files": {}},
    )


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"{}", b'{"servers":{}}', b'{"servers":{},"v":"2"}', b'{"servers":[],"v":"1"}', b"\xff"]
)
def test_a_signed_body_of_another_form_is_refused(body: bytes) -> None:
    """A signature makes it no inventory."""
    with pytest.raises(TokenError) as caught:
        open_inventory(_inventory(body), TRUST)
    assert caught.value.code == "inventory_malformed"
