"""Every published case has the verdict that stands beside it."""

import argparse
import json
from pathlib import Path
from typing import Any

from agent_identity.audit import Report, Verifier

HERE = Path(__file__).resolve().parent


def verified(case: dict[str, Any], folder: Path) -> Report:
    """Verify the evidence of a case as its arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    for option in ("--trust", "--ledger", "--checkpoint", "--disclosures", "--archive"):
        parser.add_argument(option)
    parser.add_argument("--span", action="store_true")
    given = parser.parse_args(case["verify"])
    path = {name: folder / value for name, value in vars(given).items() if isinstance(value, str)}
    source, more = path.pop("source"), {}
    if "disclosures" in path:
        more["disclosures"] = [path.pop("disclosures")]
    verifier = Verifier(path.pop("trust", None), processes=1)
    if given.span:
        return verifier.pasted(source, **path, **more)
    if source.is_dir() or source.suffix == ".zip":
        return verifier.ledger(source, **path, **more)
    return verifier.traces(source, **path, **more)
