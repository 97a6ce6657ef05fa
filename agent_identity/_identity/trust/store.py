"""The trust store: whose signatures count, loaded from a trust file and written to one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

from agent_identity._common.typed_calls import typed_calls
from agent_identity._identity.common.private_files import PathLike, create_public_file, replace_public_file
from agent_identity._identity.keys.keys import PublicKey
from agent_identity._identity.trust.document import check_pin, written
from agent_identity._identity.trust.entries import TrustEntries


@typed_calls("load")
@final
@dataclass(frozen=True, slots=True)
class TrustStore(TrustEntries):
    """The keys that a verifier accepts, and the names that it requires.

    Args:
        keys: The trusted keys; one key has each purpose at most once.
        issuer: The issuer that root grants must name, unless their key has an issuer of its own; ``None``
            accepts any that a trusted key signed.
        origin: The log that checkpoints must come from, unless their key has an origin of its own; ``None`` accepts
            any that a trusted key signed.
        witnesses: Who else must vouch for the log.
        approvers: Credentials of persons who approve, each once.
        file: The id and revision of the trust file; by default those of a new file.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A key has the same purpose twice, a credential is there twice, or a name breaks the rules of
            :func:`~agent_identity.identity.check_id`. An origin also has neither spaces nor ``+``, since
            it names the key of a signed note (C2SP signed-note).
    """

    @classmethod
    def load(
        cls,
        source: PathLike | Mapping[str, object] | bytes,
        *,
        root: PublicKey | str | None = None,
        revision: int = 1,
    ) -> Self:
        """Return the store that a trust file describes.

        Args:
            source: The path of the file, its bytes, or its content already parsed.
            root: The root that must have signed the file, or its thumbprint, kept where no one can change it who can
                change the file. By default the file is worth as much as its place.
            revision: The lowest revision that is accepted; an older file may lack revocations.

        Raises:
            ConfigurationError: The file cannot be read, everyone can write it or its folder, it is larger than
                1 MiB, is no JSON, or holds anything but the members of the format: unknown or duplicate members, a
                private key, a ``kid`` that is not the key's thumbprint, a key twice for one purpose, a signature that
                is none of a root of the file over this content (code ``bad_trust_signature``, also if the pinned root
                did not sign it, or does not count now). Its revision is too low (``trust_rolled_back``).
        """
        from agent_identity._identity.trust._file import read_trust  # Loads msgspec.

        store = read_trust(cls, source)
        check_pin(store, root, revision)
        return store

    def to_json(self) -> bytes:
        """Return the content of the trust file: the same bytes for equal stores.

        Raises:
            ValueError: Certificates extended it.
        """
        return written(self)

    def create(self, path: PathLike) -> None:
        """Write a new trust file in one step, mode 0644.

        Raises:
            ConfigurationError: With code ``already_exists`` if something is at the path, which is left as it
                is; otherwise the file cannot be created, or could not be loaded.
        """
        create_public_file(path, self._loadable())

    def save(self, path: PathLike) -> None:
        """Write the trust file in one step, mode 0644, replacing an older one.

        Raises:
            ConfigurationError: The file cannot be written, or could not be loaded.
        """
        replace_public_file(path, self._loadable())

    def _loadable(self) -> bytes:
        """Return the content of the file after loading it, so that no unreadable file is written."""
        data = self.to_json()
        self.load(data)
        return data
