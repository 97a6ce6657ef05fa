"""The published schema of records and lines, as a validator that others wrote reads it."""

from typing import Any, Final

from jsonschema import Draft202012Validator

from agent_identity import records

SCHEMA: Final[dict[str, Any]] = records.json_schema()
RECORDS: Final = Draft202012Validator(SCHEMA)
DETAILS: Final = RECORDS.evolve(schema=SCHEMA["$defs"]["Detail"])
LINES: Final = RECORDS.evolve(schema=SCHEMA["$defs"]["Line"])
ONLY_THE_CODEC: Final = {
    "not an identifier: 1 to 256 visible characters, or a SPIFFE ID": "its characters are told by Unicode categories",
    "not one printable line of at most 256 characters": "likewise",
    "and readers after a colon, sorted": "a schema cannot compare the parts of a text",
    "is not a JSON value": "a schema is about JSON",
    "has more than 64 nested containers; flatten it": "a validator may refuse it by its own bound",
    "lone surrogate": "no JSON text has one",
}
"""Ends of the refusals of records that the schema cannot say, each with its reason."""
