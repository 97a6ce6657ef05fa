"""What the room exports and what importing it costs."""

import subprocess
import sys
from types import FunctionType

import agent_identity.identity as room


def test_the_room_loads_neither_pydantic_nor_key_file_code() -> None:
    """What only files need is loaded when a file is read."""
    program = "import sys, agent_identity.identity; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "agent_identity.identity" in loaded
    assert loaded.isdisjoint({"pydantic", "cryptography.hazmat.primitives.serialization", "opentelemetry"})


def test_every_exported_name_says_what_it_is() -> None:
    """The public names are sorted, exist, and are documented where they can be."""
    assert room.__all__ == sorted(set(room.__all__))
    things = [getattr(room, name) for name in room.__all__]
    ours = [thing for thing in things if isinstance(thing, type | FunctionType)]
    assert [thing for thing in ours if not thing.__doc__] == []
    assert len(ours) > 20
