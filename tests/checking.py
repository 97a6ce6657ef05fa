"""One call for evidence of any kind, for tests that do not care which it is."""

from dataclasses import fields
from typing import Any

from agent_identity import Report, Verifier
from agent_identity._verify.inputs.sources import directory_of, is_bundle

_SHARED = {field.name for field in fields(Verifier)} - {"trust"}


def check(source: Any, trust: Any = None, *, pasted: bool = False, **options: Any) -> Report:
    """Verify a directory, a bundle, or one or several files of spans; return what was found."""
    shared = {name: options.pop(name) for name in _SHARED & options.keys()}
    verifier = Verifier(trust, **shared)
    if is_bundle(source) or (directory_of(source) is not None and not pasted):
        return verifier.ledger(source, **options)
    sources = source if isinstance(source, list | tuple) else [source]
    return (verifier.pasted if pasted else verifier.traces)(*sources, **options)
