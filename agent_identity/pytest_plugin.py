"""The pytest plugin: the fixture ``rehearse``, and the records of a test that fails.

pytest loads it wherever the distribution is installed (entry point ``pytest11``; ``-p no:agent_identity`` switches it
off), so it imports nothing of ours before a test asks for the fixture.
"""

from collections.abc import Generator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from agent_identity.testing import Rehearsal, Rehearse

__all__ = ["pytest_runtest_call", "rehearse"]

_OPENED: Final = pytest.StashKey[list["Rehearsal"]]()


@pytest.fixture
def rehearse(request: pytest.FixtureRequest, tmp_path: Path) -> "Generator[Rehearse]":
    """Opens rehearsals: a real enforcer on a directory of the test, with a fixed clock and counting ids."""
    from agent_identity.testing import Rehearsal  # noqa: PLC0415  Loads the whole library.

    opened = request.node.stash.setdefault(_OPENED, [])
    with ExitStack() as stack:

        def open_one(**options: object) -> "Rehearsal":
            rehearsal = Rehearsal.open(tmp_path / f"evidence-{len(opened) + 1}", **options)  # type: ignore[arg-type]
            opened.append(rehearsal)
            return stack.enter_context(rehearsal)

        yield open_one


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Add the records of a failed test to its report, without argument values."""
    try:
        return (yield)
    except BaseException as error:
        for rehearsal in item.stash.get(_OPENED, ()):
            with suppress(Exception):  # An error here must not hide the failure of the test.
                records = str(rehearsal.records)
                if records not in str(error):  # A failed assertion of ours already lists them.
                    item.add_report_section("call", "agent_identity", f"{rehearsal.directory}: {records}")
        raise
