"""Checks events against a resolved class of OCSF and its objects, for tests."""

from collections.abc import Mapping, Sequence
from typing import Any


def ocsf_errors(value: object, schema: Mapping[str, Any], form: Mapping[str, Any], path: str = "$") -> list[str]:
    """Return what an event does that its class and objects do not allow; profiles count where the event names them."""
    if not isinstance(value, dict):
        return [f"{path}: no object"]
    attributes = form["attributes"]
    found = [f"{path}.{name}: not of this schema" for name in value if name not in attributes]
    profiles = schema.get("profiles", ())
    found += [
        f"{path}.{name}: required"
        for name, rule in attributes.items()
        if rule["requirement"] == "required" and rule.get("profile", "") in ("", *profiles) and name not in value
    ]
    some = form["constraints"].get("at_least_one")
    if some and not set(some) & value.keys():
        found.append(f"{path}: at least one of {some}")
    for name, item in value.items():
        rule = attributes.get(name, {})
        if rule.get("profile", "") not in ("", *profiles):
            found.append(f"{path}.{name}: of a profile that the event does not name")
        items = item if rule.get("array") else [item]
        for one in items if isinstance(items, Sequence) else ["no array"]:
            found += ocsf_item(one, rule, schema, f"{path}.{name}")
    return found


def ocsf_item(item: object, rule: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> list[str]:
    """Return what one value does that its attribute does not allow."""
    kind = rule.get("type", "")
    types = {"integer_t": int, "long_t": int, "timestamp_t": int, "string_t": str, "boolean_t": bool}
    if kind in types and type(item) is not types[kind]:
        return [f"{path}: expected {kind}"]
    if "enum" in rule and str(item) not in rule["enum"] and name_of(path) not in {"class_uid", "category_uid"}:
        return [f"{path}: not of the enumeration"]
    if kind in schema["objects"]:
        return ocsf_errors(item, schema, schema["objects"][kind], path)
    return []


def name_of(path: str) -> str:
    """Return the last name of a path."""
    return path.rpartition(".")[2]
