"""An integration whose extra is missing names the extra."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [("http.httpx", "httpx", "http"), ("frameworks.a2a", "a2a", "a2a")],
)
def test_the_error_of_a_missing_library_names_the_extra(module: str, library: str, extra: str) -> None:
    """The last line says which module is missing, and what to install."""
    program = f"import sys; sys.modules[{library!r}] = None; import agent_identity.integrations.{module}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: the module {library}")
    assert last.endswith(f" is missing; run pip install '.[{extra}]' in the checkout")
