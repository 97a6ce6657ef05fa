"""Write the JSON Schema of the record into the documentation, or check that it is still the same.

Run as ``python tools/record_schema.py [--check]``. The schema comes from the types that decode records.
"""

import json
import sys
from pathlib import Path

from agent_identity import records

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "record.schema.json"


def main(*, check: bool) -> int:
    """Compare or write the schema; return the exit status."""
    fresh = json.dumps(records.json_schema(), indent=1, ensure_ascii=False) + "\n"
    if not check:
        PAGE.write_text(fresh, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == fresh:
        print("docs/reference/record.schema.json is that of the types")
        return 0
    print("docs/reference/record.schema.json is out of date; run: python tools/record_schema.py")
    return 1


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
