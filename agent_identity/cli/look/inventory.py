"""``agent-identity inventory``: pinned servers and tools, and pending changes."""

import argparse
import contextlib
import difflib
import json
import sys
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Final, cast

from agent_identity._authority.stores.directory import DirectoryState
from agent_identity._authority.stores.snapshot import copied_state
from agent_identity._directory.inventory.pinned_servers import Definition, OfferedTool, PinnedServer, ServerInventory
from agent_identity._directory.inventory.server_inventory import InventoryFile, accept, forget, inventory_path, pin
from agent_identity._identity.common.clock import SystemClock
from agent_identity._identity.common.private_files import read_public_file
from agent_identity._identity.keys.keys import Signer, SigningKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity._verify.report.plurals import counted
from agent_identity.cli.terminal.signing import refuse_inside, signing
from agent_identity.cli.terminal.style import Style, clean, columns, table
from agent_identity.errors import ConfigurationError, TokenError

_COLOURS: Final = {"pinned": "green", "changed": "red", "new": "yellow", "moved": "red"}
_MAX_FILE: Final = 128 * 1024 * 1024
_SHOWN: Final = 19


def run_list(chosen: argparse.Namespace) -> int:
    """List servers and tools; exit code 1 if a change is pending."""
    book = _book(chosen.directory)
    if chosen.server is not None:
        book = {chosen.server: _server(book, chosen.server)}
    _print(book, as_json=chosen.json)
    return 1 if any(offer.waits for offer in book.values()) else 0


def run_diff(chosen: argparse.Namespace) -> int:
    """Show the two definitions of a tool; exit code 1 if they differ."""
    tool = _server(_book(chosen.directory), chosen.server).tools.get(chosen.tool)
    if tool is None:
        raise ConfigurationError(f"{chosen.server!r} has no tool {chosen.tool!r}; 'list' names its tools")
    if chosen.json:
        print(json.dumps(_tool_facts(tool)))
    else:
        style = Style(sys.stdout)
        for line in difflib.unified_diff(_lines(tool.pinned), _lines(tool.offered), "pinned", "offered", lineterm=""):
            colour = {"+": "green", "-": "red"}.get(line[:1])
            print(clean(line) if colour is None else style.paint(clean(line), colour))
    return 0 if tool.offered is None else 1


def run_accept(chosen: argparse.Namespace) -> int:
    """Accept pending changes."""
    with _signing(chosen) as (signer, trust, now), _file(chosen.directory, trust) as file:
        try:
            offer = accept(
                file,
                chosen.server,
                chosen.tool or None,
                signer=signer,
                now=now,
                digest=chosen.digest,
                reason=chosen.reason,
            )
        except TokenError:
            raise
        except ValueError as error:
            raise ConfigurationError(f"bad reason: {error}") from None
    _print({chosen.server: offer}, as_json=chosen.json)
    return 0


def run_forget(chosen: argparse.Namespace) -> int:
    """Forget a server."""
    with _signing(chosen) as (signer, trust, _), _file(chosen.directory, trust) as file:
        forget(file, chosen.server, signer=signer)
    if chosen.json:
        print(json.dumps({"forgotten": chosen.server}))
    else:
        print(f"{clean(chosen.server)} is forgotten; its tools are pinned anew when it is next seen")
    return 0


def run_pin(chosen: argparse.Namespace) -> int:
    """Pin the servers of another inventory."""
    piped = chosen.file == "-"
    data = sys.stdin.buffer.read(_MAX_FILE) if piped else read_public_file(chosen.file, limit=_MAX_FILE)
    try:
        servers = cast("Mapping[str, Mapping[str, object]]", json.loads(data)["servers"])
        book = {str(name): _offer(facts) for name, facts in servers.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ConfigurationError(
            "the file is not an inventory; give the output of 'agent-identity inventory list --json'"
        ) from None
    with _signing(chosen) as (signer, trust, now), _file(chosen.directory, trust) as file:
        _print(pin(file, book, signer=signer, now=now), as_json=chosen.json)
    return 0


@contextlib.contextmanager
def _signing(chosen: argparse.Namespace) -> Generator[tuple[Signer, TrustStore, int]]:
    refuse_inside(chosen)
    with signing(chosen) as (issuer, _, trust):
        signer = issuer if chosen.key is None else SigningKey.load(chosen.key)
        yield signer, trust, SystemClock().wall_ns() // 1_000_000_000


@contextlib.contextmanager
def _file(directory: str, trust: TrustStore) -> Generator[InventoryFile]:
    with contextlib.closing(DirectoryState(Path(directory) / "state")) as state:
        yield InventoryFile(inventory_path(directory), trust, state)


def _book(directory: str) -> ServerInventory:
    trust = TrustStore.load(Path(directory) / "trust.json")
    with copied_state(Path(directory) / "state") as state:
        return InventoryFile(inventory_path(directory), trust, state).load()


def _server(book: ServerInventory, name: str) -> PinnedServer:
    if name not in book:
        raise ConfigurationError(f"the inventory has no server {name!r}; 'inventory list' names them")
    return book[name]


def _print(book: ServerInventory, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"servers": {name: _facts(offer) for name, offer in sorted(book.items())}}))
        return
    if not book:
        print("no servers yet: they appear when a protected session lists their tools")
        return
    style = Style(sys.stdout)
    rows = [("NAME", "STATE", "FINGERPRINT", "WHERE")]
    states: list[str] = []
    for name, offer in sorted(book.items()):
        state = "pinned" if offer.moved is None else "moved"
        rows.append((clean(name), state, "", clean(_where(offer))))
        states.append(state)
        for tool, of in sorted(offer.tools.items()):
            prints = [definition.digest[:_SHOWN] for definition in (of.pinned, of.offered) if definition]
            row = f"{name}{tool}" if tool.startswith(":") else f"{name}/{tool}"
            rows.append((clean(row), of.state, " → ".join(prints), ""))
            states.append(of.state)
    lines = table(rows, indent="", room=columns(sys.stdout))
    print(style.paint(lines[0], "bold"))
    for line, state in zip(lines[1:], states, strict=True):
        print(line.replace(f"  {state} ", f"  {style.paint(state, _COLOURS[state])} ", 1))


def _where(offer: PinnedServer) -> str:
    """Return address and title of a server, with the number of tools kept only as fingerprints."""
    cut = sum(tool.is_cut for tool in offer.tools.values())
    short = f"(too much text: {counted(cut, 'tool')} only as fingerprints)" if cut else ""
    return " ".join(part for part in (offer.transport, offer.place, offer.title, offer.version, short) if part)


def _lines(definition: Definition | None) -> list[str]:
    if definition is None:
        return []
    if not definition.text:
        return [f"(too long to be kept, alone or with the others) {definition.digest}"]
    return json.dumps(json.loads(definition.text), indent=2, ensure_ascii=False).splitlines()


def _facts(offer: PinnedServer) -> dict[str, object]:
    return {
        "moved": None if offer.moved is None else {"transport": offer.moved[0], "place": offer.moved[1]},
        "place": offer.place,
        "reason": offer.reason,
        "title": offer.title,
        "tools": {name: _tool_facts(tool) for name, tool in sorted(offer.tools.items())},
        "transport": offer.transport,
        "version": offer.version,
    }


def _tool_facts(tool: OfferedTool) -> dict[str, object]:
    return {
        "state": tool.state,
        "since": tool.since,
        **{
            name: None if of is None else {"digest": of.digest, "definition": json.loads(of.text) if of.text else None}
            for name, of in (("pinned", tool.pinned), ("offered", tool.offered))
        },
    }


def _offer(facts: Mapping[str, object]) -> PinnedServer:
    """Return the pinned part of a server from the JSON of :func:`_facts`."""
    transport, tools = facts["transport"], cast("Mapping[str, Mapping[str, Mapping[str, str]]]", facts["tools"])
    if transport not in ("stdio", "http", "other") or not isinstance(facts["place"], str):
        raise ValueError
    pinned = {str(name): _pinned(tool["pinned"]) for name, tool in tools.items() if tool["pinned"]}
    return PinnedServer(transport, facts["place"], tools={name: OfferedTool(of) for name, of in pinned.items()})


def _pinned(facts: Mapping[str, object]) -> Definition:
    definition = facts["definition"]
    if isinstance(definition, dict):
        return Definition.of(cast("dict[str, str]", definition))  # The digest is computed, not taken from the file.
    return Definition.known(cast("str", facts["digest"]))
