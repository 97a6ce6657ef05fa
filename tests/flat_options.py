"""Options of an enforcer by their single names, so that a fixture can merge its own with those of a test."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from agent_identity.options import Durability, Privacy, Telemetry, Transparency

_OBJECTS = {"durability": Durability, "privacy": Privacy, "telemetry": Telemetry, "transparency": Transparency}


def grouped(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return keyword arguments of ``Enforcer.open``, with the fields of option objects gathered in these."""
    rest = dict(options)
    for parameter, kind in _OBJECTS.items():
        inside = {field.name: rest.pop(field.name) for field in fields(kind) if field.name in rest}
        if inside:
            assert parameter not in rest
            rest[parameter] = kind(**inside)
    return rest
