"""The inventory of servers: what is pinned counts until somebody accepts another, and the file cannot be changed."""

import json
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Enforcer, Verifier
from agent_identity._authority.registries.server_inventories import INVENTORY_TYPE
from agent_identity._directory.inventory import server_inventory as module
from agent_identity._directory.inventory.pinned_servers import (
    MAX_NAMES,
    MAX_SERVERS,
    MAX_TEXT,
    MAX_TOOLS,
    Definition,
    Observation,
    OfferedTool,
    PinnedServer,
    sighted,
)
from agent_identity._directory.inventory.server_inventory import Inventory, InventoryFile, accept, inventory_path, pin
from agent_identity._identity.common.encoding import digest_of
from agent_identity._identity.keys.jws import sign_compact
from agent_identity._storage.os_files import Files
from agent_identity.audit import story
from agent_identity.canonical import encode
from agent_identity.errors import ConfigurationError, Denied, EvidenceError, TokenError
from agent_identity.identity import SigningKey, TrustStore
from agent_identity.options import Sources

URL = "https://files.example.com/mcp"
NOW = 1_764_000_000


def tool(text: str) -> Definition:
    return Definition.of({"name": "read", "description": text})


A, B, C = tool("a"), tool("b"), tool("c")


def sighting(place: str = URL, *, name: str = "files", version: str = "1", **tools: Definition) -> Observation:
    return Observation(name, "http", place, "Files", version, tools)


def inventory_of(world: Any) -> Inventory:
    return world.enforcer.inventory


def refused(code: str, world: Any, name: str = "read", definition: Definition | None = A) -> None:
    offer = inventory_of(world).find("files")
    assert offer is not None
    with pytest.raises(Denied) as caught:
        offer.check_tool("files", name, definition and definition.digest)
    assert caught.value.code == code


def accept_in(world: Any, *tools: str, server: str = "files", **more: Any) -> PinnedServer:
    """Accept as the command does, in another process."""
    key = SigningKey.load(world.directory / "keys" / "issuer.pem")
    trust = TrustStore.load(world.directory / "trust.json")
    file = InventoryFile(inventory_path(world.directory), trust)
    return accept(file, server, tools or None, signer=key, now=NOW, **more)


def test_the_first_sight_pins_and_a_change_waits(world: Any) -> None:
    """A changed definition is refused until it is accepted, which takes hold in a process that runs."""
    inventory = inventory_of(world)
    inventory.sight(sighting(read=A, write=B), pin=True)
    inventory.sight(sighting(read=C, write=B), pin=True)
    refused("tool_changed", world, "read", C)
    inventory.find("files").check_tool("files", "write", B.digest)
    assert accept_in(world, "read", reason="looked at").tools["read"].pinned == C
    inventory.find("files").check_tool("files", "read", C.digest)
    refused("tool_changed", world, "read", A)


def test_what_comes_later_is_not_pinned(world: Any) -> None:
    """A tool that was not there at first sight waits, and so does all of a server that is not to be pinned."""
    inventory = inventory_of(world)
    inventory.sight(sighting(read=A), pin=True)
    inventory.sight(sighting(read=A, wipe=B), pin=True)
    refused("tool_not_accepted", world, "wipe", B)
    refused("tool_not_accepted", world, "unheard", B)
    refused("tool_not_listed", world, "read", None)
    inventory.sight(sighting(name="others", read=A), pin=False)
    assert inventory.find("others").tools["read"].state == "new"
    assert accept_in(world, server="others").tools["read"].state == "pinned"


def test_going_and_coming_back_resets_nothing(world: Any) -> None:
    """A tool that was left out for a while is compared with what was pinned; the pinned one clears what waits."""
    inventory = inventory_of(world)
    inventory.sight(sighting(read=A), pin=True)
    inventory.sight(sighting(), pin=True)
    inventory.sight(sighting(read=B), pin=True)
    refused("tool_changed", world, "read", B)
    inventory.sight(sighting(read=A), pin=True)
    assert inventory.find("files").tools["read"].state == "pinned"


def test_a_server_at_another_place_is_refused(world: Any) -> None:
    """A name belongs to an address or command; another one pending acceptance together with the tools."""
    inventory = inventory_of(world)
    inventory.sight(sighting(read=A), pin=True)
    inventory.sight(sighting("https://evil.example.com/mcp", read=A), pin=True)
    offer = inventory.find("files")
    with pytest.raises(Denied, match="has moved") as caught:
        offer.check_place("files", "http", "https://evil.example.com/mcp")
    assert caught.value.code == "server_moved"
    offer.check_place("files", "http", URL)
    with pytest.raises(ConfigurationError, match="pending acceptance"):
        accept_in(world, "read")
    accept_in(world)
    inventory.find("files").check_place("files", "http", "https://evil.example.com/mcp")


def test_calls_of_a_server_that_moved_have_a_refusal(world: Any) -> None:
    """A first sight and the same place have none; another place has one until it is accepted."""
    inventory = inventory_of(world)
    assert [inventory.refusal(sighting(read=A)) for _ in range(2)] == [None, None]
    denied = inventory.refusal(sighting("https://evil.example.com/mcp", read=A))
    assert denied is not None
    assert denied.code == "server_moved"
    assert inventory.refusal(sighting(read=C)) is None
    assert inventory.find("files").tools["read"].state == "changed"


@pytest.mark.parametrize("address", ["https://files.example.com/" + "x" * 1000, ["serve", "--token=secret"], []])
def test_a_place_without_a_short_text_is_a_digest(world: Any, address: Any) -> None:
    """So the place of any server fits in a record, and shows no argument of a command."""
    assert Observation.place_of(URL) == URL
    place = Observation.place_of(address)
    assert place == digest_of(encode(address))
    inventory_of(world).sight(sighting(place, read=A), pin=True)
    world.enforcer.close()
    report = Verifier(world.directory / "trust.json").ledger(world.directory)
    assert (report.verdict, report.findings) == ("verified", ())


def test_only_what_was_looked_at_is_accepted(world: Any) -> None:
    """With a digest, what changed once more in between is not accepted; what does not wait, neither."""
    inventory = inventory_of(world)
    inventory.sight(sighting(read=A), pin=True)
    with pytest.raises(ConfigurationError, match="is pending acceptance"):
        accept_in(world)
    with pytest.raises(ConfigurationError, match="has no server"):
        accept_in(world, server="unknown")
    inventory.sight(sighting(read=C), pin=True)
    with pytest.raises(ConfigurationError, match="look again"):
        accept_in(world, "read", digest=B.digest)
    accept_in(world, "read", digest=C.digest)


def test_servers_and_tools_stand_in_the_ledger_once_for_each_change(world: Any) -> None:
    """The records say name, transport, place, version and fingerprints; the ledger verifies, and stories still read."""
    inventory = inventory_of(world)
    for _ in range(2):
        inventory.sight(sighting(read=A), pin=True)
    inventory.sight(sighting(read=B, new=C), pin=True)
    accept_in(world, "read", reason="agreed")
    inventory.find("files")
    inventory.sight(sighting("https://moved.example.com", version="", read=B, new=C), pin=True)
    records = [(r["server"], r["tools"]) for r in world.records("registration")]
    server = {"name": "files", "transport": "http", "place": URL, "title": "Files", "version": "1", "status": "pinned"}
    waiting = {"name": "files/new", "status": "new", "offered": C.digest}
    assert records == [
        (server, [{"name": "files/read", "status": "pinned", "pinned": A.digest}]),
        (server, [waiting, {"name": "files/read", "status": "changed", "pinned": A.digest, "offered": B.digest}]),
        ({**server, "reason": "agreed"}, [waiting, {"name": "files/read", "status": "pinned", "pinned": B.digest}]),
        (
            {**server, "reason": "agreed", "status": "moved"},
            [waiting, {"name": "files/read", "status": "pinned", "pinned": B.digest}],
        ),
    ]
    world.enforcer.close()
    assert Verifier(TrustStore.load(world.directory / "trust.json")).ledger(world.directory).verdict == "verified"
    assert list(story(world.directory)) == []


def test_a_server_without_tools_is_recorded_too(world: Any) -> None:
    """A server of resources alone has a record, without an empty list."""
    inventory_of(world).sight(Observation("notes", "other", "", "", "", {}), pin=True)
    (record,) = world.records("registration")
    assert record["server"] == {"name": "notes", "transport": "other", "status": "pinned"}
    assert "tools" not in record


def test_another_process_sees_what_was_pinned(opened: Callable[..., Any], world: Any) -> None:
    """The pins outlive the process, and a second enforcer on the directory compares with them."""
    inventory_of(world).sight(sighting(read=A), pin=True)
    with Enforcer.open(world.directory, sources=Sources(clock=world.clock)) as other:
        found = other.inventory
        found.sight(sighting(read=B), pin=True)
        assert found.find("files").tools["read"].state == "changed"
    refused("tool_changed", world, "read", B)


def test_without_a_directory_the_inventory_is_in_memory(world: Any) -> None:
    """An enforcer made of parts pins for as long as it lives."""
    point = world.enforcer._enforcement
    trust = TrustStore.load(world.directory / "trust.json")
    inventory = Inventory(point.ledger, SigningKey.generate(), trust, world.clock)
    inventory.sight(sighting(read=A), pin=True)
    inventory.sight(sighting(read=B), pin=True)
    assert inventory.find("files").tools["read"].state == "changed"
    assert inventory.find("unknown") is None


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda data: data.replace(b'"title":"Files"', b'"title":"Evil!"'), "inventory_malformed"),
        (lambda data: data + b"more\n", "inventory_malformed"),
        (lambda data: data[:-1], "inventory_malformed"),
        (lambda _: b"", "inventory_malformed"),
        (lambda data: b"\xff" + data, "inventory_malformed"),
        (lambda data: b"x" + data, "malformed_token"),
    ],
)
def test_a_changed_file_is_refused(world: Any, damage: Callable[[bytes], bytes], code: str) -> None:
    """Whoever can write the directory cannot pin another definition; calls are refused meanwhile."""
    inventory_of(world).sight(sighting(read=A), pin=True)
    path = Path(inventory_path(world.directory))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(TokenError) as caught:
        InventoryFile(str(path), TrustStore.load(world.directory / "trust.json")).load()
    assert caught.value.code in {code, "not_canonical", "bad_signature"}
    for ask in (lambda: inventory_of(world).find("files"), lambda: inventory_of(world).sight(sighting(), pin=True)):
        with pytest.raises(Denied) as denied:
            ask()
        assert denied.value.code == "inventory_unusable"


def test_an_inventory_that_a_stranger_signed_is_refused(world: Any) -> None:
    """Only keys that are trusted as issuer count."""
    path, trust = inventory_path(world.directory), TrustStore.load(world.directory / "trust.json")
    stranger = SigningKey.generate()
    Path(path).write_bytes(module._written(module._State(1, {}), stranger))
    with pytest.raises(TokenError) as caught:
        InventoryFile(path, trust).load()
    assert caught.value.code == "unknown_key"
    key = SigningKey.load(world.directory / "keys" / "issuer.pem")
    Path(path).write_bytes(module._written(module._State(1, {}), key).replace(b'"v":"1"', b'"v":"2"'))
    with pytest.raises(TokenError):
        InventoryFile(path, trust).load()


def test_of_another_version_is_told_apart(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is signed and has another shape is not half read."""
    path, trust = inventory_path(world.directory), TrustStore.load(world.directory / "trust.json")
    key = SigningKey.load(world.directory / "keys" / "issuer.pem")
    with monkeypatch.context() as patch:
        patch.setattr(module, "INVENTORY_VERSION", "2")
        Path(path).write_bytes(module._written(module._State(1, {}), key))
    with pytest.raises(TokenError, match="are not servers and v 1; pin the servers anew"):
        InventoryFile(path, trust).load()


@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize("fresh", [True, False])
def test_an_older_file_put_back_is_noticed(world: Any, older: bool, fresh: bool) -> None:
    """An earlier inventory, and none at all, is refused by who knew the later one, and by a fresh process."""
    inventory, path = inventory_of(world), Path(inventory_path(world.directory))
    inventory.sight(sighting(read=A), pin=True)
    before = path.read_bytes()
    inventory.sight(sighting(read=B), pin=True)
    path.unlink()
    if older:
        path.write_bytes(before)
    if fresh:
        with (
            Enforcer.open(world.directory, sources=Sources(clock=world.clock)) as other,
            pytest.raises(Denied, match="older than one"),
        ):
            other.inventory.sight(sighting(read=B), pin=True)
    with pytest.raises(Denied, match="older than one") as caught:
        inventory.find("files")
    assert caught.value.code == "inventory_unusable"


def test_a_failing_disk_refuses(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written or looked at does not count."""

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    inventory = inventory_of(world)
    with monkeypatch.context() as patch:
        patch.setattr(Files, "open", fail)
        with pytest.raises(Denied, match="No space left"):
            inventory.sight(sighting(read=A), pin=True)
    with monkeypatch.context() as patch:
        patch.setattr(module.os, "stat", fail)
        with pytest.raises(Denied, match="No space left"):
            inventory.find("files")
    assert inventory.find("files") is None


def test_what_cannot_be_recorded_is_not_used(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server is used that does not stand in the ledger; the next attempt records it."""
    inventory = inventory_of(world)

    def fail(*_: object) -> None:
        raise EvidenceError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(type(world.enforcer._enforcement.ledger), "append", fail)
        with pytest.raises(EvidenceError):
            inventory.sight(sighting(read=A), pin=True)
    inventory.find("files")
    assert len(world.records("registration")) == 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_goes_on_without_the_lock_of_its_parent(world: Any) -> None:
    """A lock that another thread holds while the process forks blocks nobody in the child."""
    inventory = inventory_of(world)
    inventory.sight(sighting(read=A), pin=True)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with inventory._lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = os.fork()
    if not child:
        signal.alarm(30)
        found = inventory.find("files")
        os._exit(0 if found is not None and found.tools["read"].pinned == A else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    done.set()
    thread.join()


def test_there_are_bounds(world: Any) -> None:
    """Too many servers or tools are refused, and a very long definition is kept by its digest alone."""
    many = {f"t{number}": A for number in range(MAX_TOOLS + 1)}
    with pytest.raises(Denied, match="has 1025 tools"):
        inventory_of(world).sight(sighting(**many), pin=True)
    book = {f"s{number}": PinnedServer("other", "") for number in range(MAX_SERVERS)}
    with pytest.raises(ConfigurationError, match="servers"):
        sighted(book, sighting(), now=NOW, pin=True)
    assert tool("x" * 100_000).text == ""
    with pytest.raises(ValueError, match="43 base64url"):
        Definition.known("sha256:no")


def test_servers_can_be_pinned_before_they_are_seen(world: Any) -> None:
    """What was looked at elsewhere is pinned here, and the first sight compares with it."""
    trust = TrustStore.load(world.directory / "trust.json")
    key = SigningKey.load(world.directory / "keys" / "issuer.pem")
    file = InventoryFile(inventory_path(world.directory), trust)
    offer = PinnedServer("http", URL, tools={"read": OfferedTool(A)})
    assert pin(file, {"files": offer}, signer=key, now=NOW)["files"].tools["read"].since == NOW
    inventory_of(world).sight(sighting(read=B), pin=True)
    refused("tool_changed", world, "read", B)
    for bad in ({"a\nb": offer}, {f"s{n}": offer for n in range(MAX_SERVERS + 1)}):
        with pytest.raises(ConfigurationError):
            pin(file, bad, signer=key, now=NOW)
    too_many = PinnedServer("http", URL, tools={f"t{n}": OfferedTool(A) for n in range(MAX_TOOLS + 1)})
    with pytest.raises(ConfigurationError, match="tools"):
        pin(file, {"files": too_many}, signer=key, now=NOW)


def test_an_inventory_has_a_largest_size(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that would not be read again is not written."""
    monkeypatch.setattr(module, "_MAX_FILE", 100)
    with pytest.raises(Denied, match="128 MiB"):
        inventory_of(world).sight(sighting(read=A), pin=True)
    assert json.loads(A.text)["name"] == "read"


def test_one_server_cannot_fill_the_inventory_of_all(world: Any) -> None:
    """Beyond a budget only digests are kept, which still count; what is pinned keeps its text, and others go on."""
    inventory = inventory_of(world)
    inventory.sight(sighting(name="evil", keep=A), pin=True)
    for letter in "\\xyz":
        flood = {f"t{number}": tool(f"{number}" + letter * 14_000) for number in range(MAX_TOOLS - 1)}
        inventory.sight(sighting(name="evil", **flood), pin=True)
        assert Path(inventory_path(world.directory)).stat().st_size < MAX_TEXT * 2
    offer = inventory.find("evil")
    assert offer.tools["keep"].pinned == A
    texts = [len(of.offered.text) for of in offer.tools.values() if of.offered is not None]
    assert max(texts) > 14_000
    assert min(texts) == 0
    assert sum(texts) <= MAX_TEXT
    assert {name: of.offered.digest for name, of in offer.tools.items() if of.offered is not None} == {
        name: of.digest for name, of in flood.items()
    }
    before = Path(inventory_path(world.directory)).read_bytes()
    inventory.sight(sighting(name="evil", **flood), pin=True)
    assert Path(inventory_path(world.directory)).read_bytes() == before
    inventory.sight(sighting(read=A), pin=True)
    refused("tool_changed", world, "read", B)


def test_servers_together_cannot_fill_the_inventory_of_an_honest_one(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond what all may say, everybody keeps less text; pins stay, one more is written, and nothing is told twice."""
    monkeypatch.setattr(module, "_USUAL", 500_000)  # Which holds 64 KiB of each, and not 256.
    inventory = inventory_of(world)
    for number in range(8):
        flood = {f"t{each}": tool(f"{number} {each}" + "x" * 9_000) for each in range(20)}
        inventory.sight(sighting(name=f"evil{number}", **flood), pin=True)
    inventory.sight(sighting(read=A), pin=True)
    assert Path(inventory_path(world.directory)).stat().st_size < 501_000
    inventory.find("files").check_tool("files", "read", A.digest)
    assert inventory.find("files").tools["read"].pinned.text == A.text
    refused("tool_changed", world, "read", B)
    last = inventory.find("evil7")
    last.check_tool("evil7", "t3", flood["t3"].digest)
    assert {tool.is_cut for tool in last.tools.values()} == {True, False}
    before = Path(inventory_path(world.directory)).read_bytes()
    inventory.sight(sighting(name="evil7", **flood), pin=True)
    assert Path(inventory_path(world.directory)).read_bytes() == before
    for number in range(8):
        inventory.find(f"evil{number}")
    told = [record["server"]["name"] for record in world.records("registration") if "server" in record]
    assert sorted(told) == sorted([*(f"evil{number}" for number in range(8)), "files"])


def test_all_that_counts_of_all_servers_fits() -> None:
    """The largest inventory without text, with names that JSON makes longer, is one that is written and read."""
    name = "\\" * (MAX_NAMES // MAX_TOOLS - 4)
    tools = {
        f"{name}{number:04}": OfferedTool(Definition.known(A.digest), Definition.known(B.digest), 10**10)
        for number in range(MAX_TOOLS)
    }
    book = {"files": PinnedServer("stdio", "p" * 256, "t" * 128, "v" * 128, {}, ("stdio", "p" * 256), "r" * 256)}
    given = sighted(book, sighting(**dict.fromkeys(tools, C)), now=NOW, pin=True)
    assert len(given["files"].tools) == MAX_TOOLS
    largest = replace(given["files"], tools=tools)
    assert len(module._body({"s" * 128: largest})) * MAX_SERVERS < module._MAX_FILE


def test_names_have_a_largest_size_together(world: Any) -> None:
    """Names are what counts and are never left out, so there is an end to them; what was pinned before stays."""
    long = {f"{number}{'x' * 240}": A for number in range(MAX_NAMES // 240)}
    with pytest.raises(Denied, match="tool names of the server"):
        inventory_of(world).sight(sighting(**long), pin=True)
    book = {"files": PinnedServer("http", URL, tools={name: OfferedTool(A) for name in long})}
    assert sighted(book, sighting(**long), now=NOW, pin=True)["files"].tools == book["files"].tools


@pytest.mark.parametrize(
    "body",
    [
        *([], "", 1, {"servers": {}}, {"servers": {}, "v": 1}, {"servers": {}, "v": "1", "x": 1}),
        *({"servers": some, "v": "1"} for some in ([], {"a": []}, {"a": {"tools": []}})),
        {
            "servers": {"a": {"moved": [], "place": "", "title": "", "tools": {}, "transport": "", "version": ""}},
            "v": "1",
        },
    ],
)
def test_a_signed_body_of_another_shape_is_malformed(world: Any, body: Any) -> None:
    """What the issuer signed is not therefore an inventory."""
    key = SigningKey.load(world.directory / "keys" / "issuer.pem")
    path, trust = inventory_path(world.directory), TrustStore.load(world.directory / "trust.json")
    data = encode(body)
    claims = {"digest": digest_of(data), "number": 1}
    token = sign_compact({"kid": key.public_key.thumbprint, "typ": INVENTORY_TYPE}, claims, key)
    Path(path).write_bytes(token.encode() + b"\n" + data + b"\n")
    with pytest.raises(TokenError) as caught:
        InventoryFile(path, trust).load()
    assert caught.value.code == "inventory_malformed"
