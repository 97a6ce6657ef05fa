"""Output of commands for machines."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping


def print_list(name: str, items: Iterable[object], rest: Callable[[], Mapping[str, object]] = dict) -> None:
    """Print one JSON object with a list, item by item, so that memory does not grow with it.

    Args:
        name: The member that is the list.
        items: The items.
        rest: Returns the other members, called after the last item.
    """
    before = f"{{{json.dumps(name)}: ["
    for item in items:
        sys.stdout.write(before + json.dumps(item))
        before = ", "
    if before != ", ":
        sys.stdout.write(before)
    print("]" + "".join(f", {json.dumps(key)}: {json.dumps(value)}" for key, value in rest().items()) + "}")
