"""Clocks, identifiers, names, encodings, periods, and files with owners and modes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._identity.common.clock import Clock, SystemClock
    from agent_identity._identity.common.encoding import b64_decode, b64_encode, b64url_decode, b64url_encode, digest_of
    from agent_identity._identity.common.ids import (
        DIGEST_FORM,
        ID_FORM,
        Ids,
        RandomIds,
        bytes_of_id,
        id_of,
        id_order,
        is_digest,
        is_id128,
        uuid_of,
    )
    from agent_identity._identity.common.names import check_id
    from agent_identity._identity.common.periods import MAX_TIME, check_period, check_time, within
    from agent_identity._identity.common.private_files import (
        PathLike,
        check_path,
        create_private_file,
        create_public_file,
        hide_from_git,
        is_there,
        put_in_place,
        read_private_file,
        read_public_file,
        read_trusted_file,
        replace_private_file,
        replace_public_file,
    )
    from agent_identity._identity.common.tool_names import is_of_server, names_at_servers, server_of, tool_name
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._identity.common.clock": ("Clock", "SystemClock"),
            "agent_identity._identity.common.encoding": (
                "b64_decode",
                "b64_encode",
                "b64url_decode",
                "b64url_encode",
                "digest_of",
            ),
            "agent_identity._identity.common.ids": (
                "DIGEST_FORM",
                "ID_FORM",
                "Ids",
                "RandomIds",
                "bytes_of_id",
                "id_of",
                "id_order",
                "is_digest",
                "is_id128",
                "uuid_of",
            ),
            "agent_identity._identity.common.names": ("check_id",),
            "agent_identity._identity.common.periods": ("MAX_TIME", "check_period", "check_time", "within"),
            "agent_identity._identity.common.private_files": (
                "PathLike",
                "check_path",
                "create_private_file",
                "create_public_file",
                "hide_from_git",
                "is_there",
                "put_in_place",
                "read_private_file",
                "read_public_file",
                "read_trusted_file",
                "replace_private_file",
                "replace_public_file",
            ),
            "agent_identity._identity.common.tool_names": (
                "is_of_server",
                "names_at_servers",
                "server_of",
                "tool_name",
            ),
        },
    )

__all__ = [
    "DIGEST_FORM",
    "ID_FORM",
    "MAX_TIME",
    "Clock",
    "Ids",
    "PathLike",
    "RandomIds",
    "SystemClock",
    "b64_decode",
    "b64_encode",
    "b64url_decode",
    "b64url_encode",
    "bytes_of_id",
    "check_id",
    "check_path",
    "check_period",
    "check_time",
    "create_private_file",
    "create_public_file",
    "digest_of",
    "hide_from_git",
    "id_of",
    "id_order",
    "is_digest",
    "is_id128",
    "is_of_server",
    "is_there",
    "names_at_servers",
    "put_in_place",
    "read_private_file",
    "read_public_file",
    "read_trusted_file",
    "replace_private_file",
    "replace_public_file",
    "server_of",
    "tool_name",
    "uuid_of",
    "within",
]
