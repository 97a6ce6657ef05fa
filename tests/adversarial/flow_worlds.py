"""What the abuse cases of information flow share: an office with mail, contacts and payments."""

import errno
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
from mark_changes import marks_among

from agent_identity import Human, Report, Verifier, records
from agent_identity._record.schema import Detail
from agent_identity._storage.os_files import Files
from agent_identity.approvals import Approval, ApprovalRequest
from agent_identity.policy import Flow

OWN = "GB82 WEST 1234 5698 7654 32"
EVIL = "DE89 3704 0044 0532 0130 00"
BOB = Human("bob@example.com")
REQUEST = f"Pay Acme's invoice INV-42 to {OWN} and tell bobby@example.com"


def open_office(open_world: Callable[..., Any], **options: Any) -> Any:
    """Return a world that judges by the shipped flow policy."""
    return open_world(**{"policy": Flow(), **options})


def approving(asked: list[ApprovalRequest]) -> Approval:
    """Return a desk where Bob approves everything, and keeps what he was asked."""

    def ask(request: ApprovalRequest) -> object:
        asked.append(request)
        return request.approve(by=BOB)

    return Approval(ask=ask)


def pays(world: Any, **options: Any) -> Callable[..., object]:
    """Return the tool that pays to an IBAN."""

    @world.enforcer.tool(**{"labels": ["payment"], "destination": ("iban",), "returns": "trusted", **options})
    def pay(iban: object, amount: object = 5) -> str:
        world.ran.append(("pay", iban))
        return "paid"

    return pay


def reads(world: Any, content: object, name: str = "read", **options: Any) -> Callable[..., Any]:
    """Return a tool without consequences that returns a content, by default one that nobody can write to."""

    @world.enforcer.tool(**{"name": name, "labels": [], "returns": "trusted", **options})
    def body(x: object = None) -> object:
        if isinstance(content, BaseException):
            raise content
        return content(x) if callable(content) else content

    return body


def of_kind(world: Any, *kinds: type) -> list[Any]:
    """Return the records of a world of these kinds, in their order."""
    return [one for one in records.read(world.directory) if isinstance(one, kinds)]


def details(world: Any) -> list[Detail]:
    """Return the details of the outcomes of a world, in their order."""
    return [detail for _, detail in records.read_lines(world.directory) if detail is not None]


def marks(world: Any) -> list[tuple[str, str]]:
    """Return the causes and labels of all marks; a result or error is recorded by the outcome of its call."""
    return marks_among(of_kind(world, records.Mark, records.Intent, records.Outcome))


@contextmanager
def no_changes_written(*, refusals: bool = False) -> Generator[list[bytes]]:
    """Have the disk refuse each line that changes a mark, and yield those lines.

    Args:
        refusals: Those of calls that are refused as well.
    """
    write, refused = Files.write, list[bytes]()

    def failing(self: Files, fd: int, data: bytes) -> int:
        changes = b'"kind":"mark"' in data or b'"mark_after"' in data
        if changes and (refusals or b'"outcome":"denied"' not in data):
            refused.append(data)
            raise OSError(errno.ENOSPC, "the disk is full")
        return write(self, fd, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Files, "write", failing)
        yield refused


def paid(world: Any) -> list[object]:
    """Return where money went."""
    return [iban for name, iban in world.ran if name == "pay"]


def verified(world: Any) -> Report:
    """Close a world, and return what the verifier says of it."""
    world.enforcer.close()
    return Verifier().ledger(world.directory)


def codes(report: Report) -> set[str]:
    """Return what a verifier found."""
    return {problem.code for problem in report.findings}
