"""Random surgeries of the published cases, sealed again as an insider with all keys would seal them."""

import copy
import gzip
import json
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from evidence_cases import CASES, content_of
from vectors.insider import BEGIN, HOLDERS, ISSUER, ORIGIN, RECORDER, STRANGER, canonical, digest, framed, logged, noted

from agent_identity import records
from agent_identity._identity.common.encoding import b64url_encode, digest_of
from agent_identity._identity.keys.jws import parse_compact, sign_compact
from agent_identity._ledger.transparency.merkle import leaf_hash, root_of
from agent_identity.canonical import decode

Record = dict[str, Any]
Path = tuple[Any, ...]
Content = dict[str, bytes]

VALUES: Final = {
    "effect": "allow warn block route",
    "enforced": "allow block modify escalate audit",
    "mode": "enforce monitor",
    "outcome": "success error cancelled suspended routed denied",
    "status": "pending approved rejected expired",
    "cause": "start request said received read chunk prompt join accept answer opened isolated",
    "label": "trusted unknown untrusted untrusted:finance trusted:a,b untrusted:",
    "provenance": "principal trusted unknown untrusted",
    "joined": "trusted unknown untrusted untrusted:a",
    "claimed": "trusted untrusted unknown:a",
    "error": "mark_not_recorded content_quarantined X",
    "flow": "flow-1 flow-2",
    "kind": "human service function model streamed_model",
    "seq": "1 2 3 4 5",
    "stage": "prompt completion open delegate",
    "torn_bytes": "0 5 10",
    "rejected_bytes": "0 3 10",
}
"""Values of members, wherever they stand."""

Members = dict[str, tuple[Any, ...]]
MEMBERS: Final[Members] = {
    "resumes": ("AN_INTENT",),
    "intent": ("AN_INTENT",),
    "judged_at": ("A_PLACE",),
    "endorses": (True,),
    "findings": (["x"], [{"category": "x", "inspector": "y", "severity": "low"}]),
    "label": ("untrusted", "trusted"),
    "mark_after": ({"label": "untrusted", "seq": "2"}, {"label": "trusted", "seq": "1"}),
    "provenance": ([{"argument": "a", "provenance": "untrusted", "destination": True}],),
    "error": ("mark_not_recorded", "content_quarantined"),
    "claimed": ("trusted", "untrusted", "unknown:a"),
    "resources": ([{"system": "a", "name": "b", "access": "read"}],),
}
CLAIMS: Final[Members] = {
    "aud": ("orders", "stock", None),
    "del_depth": (0, 1, 2, 3),
    "del_max_depth": (0, 1, 3, 32, 33),
    "exp": (BEGIN + 1, BEGIN + 600, BEGIN + 90 * 86_400 + 1),
    "iat": (BEGIN - 100, BEGIN, BEGIN + 2, BEGIN + 300),
    "iss": ("https://issuer.example/agents", "https://issuer.example/others"),
    "sub": ("alice@example.com", "bob@example.com"),
    "txn": ("task-9",),
    "par_hash": (digest("parent"), None),
    "limits": ([{"kind": "uses", "max": 1, "tool": "*"}], [{"kind": "uses", "max": 2, "tool": "pay"}], [], None),
    "nonce": ("x",),
}
"""What records and details, and grants, get or lose."""


def whole_cases() -> list[str]:
    """Return the names of verified cases of which every record is there."""
    names = [name for name, case in CASES.items() if case.get("verify") == [".", "--trust", "trust.json"]]
    clean = [name for name in names if CASES[name]["exit"] == 0]
    return [name for name in clean if not any(data.startswith(b'{"leaf"') for data in content_of(CASES[name]).values())]


def walk(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every member and item within a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key)
        yield from walk(item, (*path, key))


def within(value: Any, path: Path) -> Any:
    """Return what stands at a path."""
    for key in path:
        value = value[key]
    return value


def claims_of(token: str) -> Record:
    """Return the claims of a grant."""
    claims: Any = decode(parse_compact(token).payload)
    return dict(claims)


def hash_of(token: str) -> str:
    """Return the name of a grant in records."""
    return digest_of(token.rpartition(".")[0].encode())


def _has_form(record: Record) -> bool:
    """Whether it is a record, at whatever place."""
    place = {"id": "A" * 22, "seq": "1"} if record["kind"] == "stream_start" else record["stream"]
    try:
        records.decode(canonical({**record, "stream": place}))
    except ValueError:
        return False
    return True


class Surgeon:
    """Operates on one case, the same way for the same seed; ``done`` says how."""

    def __init__(self, seed: int, names: list[str]) -> None:
        self._random = random.Random(seed)  # noqa: S311 - the same surgeries each night
        name = self._random.choice(names)
        self.done = [name]
        content = content_of(CASES[name])
        self._files = {file: data for file, data in content.items() if not file.startswith(("ledger/", "log/"))}
        self._trust: Record = json.loads(self._files["trust.json"])
        self._signer = RECORDER
        self._streams: dict[str, list[tuple[Record, Record | None]]] = {}
        for file, data in content.items():
            if file.startswith("ledger/") and file.endswith("/entries.jsonl"):
                lines = [json.loads(line) for line in data.split(b"\n")[:-1]]
                self._streams[file.split("/")[1]] = [(line["record"], line.get("detail")) for line in lines]

    def operate(self) -> Content:
        """Return the files after one to three surgeries."""
        surgeries = [name for name in dir(self) if name.startswith("_cut_")]
        rounds = self._random.choice((1, 1, 2, 2, 3, 4))
        for _ in range(20):
            if len(self.done) > rounds:
                break
            before, name = copy.deepcopy((self._streams, self._trust)), self._random.choice(surgeries)
            with suppress(KeyError, IndexError, TypeError, ValueError):  # What it wanted to change is not there.
                done = name + str(getattr(self, name)() or "")
                if self._random.random() < 0.1 or all(map(_has_form, self._records())):
                    self.done.append(done)
                    continue
            self._streams, self._trust = before
        return self._sealed()

    def _any(self, *kinds: str) -> tuple[str, int, Record]:
        places = [(s, i, line[0]) for s, lines in self._streams.items() for i, line in enumerate(lines)]
        return self._random.choice([place for place in places if not kinds or place[2]["kind"] in kinds])

    def _records(self) -> list[Record]:
        return [record for lines in self._streams.values() for record, _ in lines]

    def _tokens(self) -> dict[str, str]:
        return {hash_of(one["grant"]["token"]): one["grant"]["token"] for one in self._records() if "grant" in one}

    def _value(self, wanted: Any) -> Any:
        if wanted == "AN_INTENT":
            return self._random.choice([one["id"] for one in self._records() if one["kind"] == "intent"])
        if wanted == "A_PLACE":
            hops = [hop["grant"] for one in self._records() for hop in one.get("chain", ())]
            return {"hop": self._random.choice(sorted(set(hops))), "seq": self._random.choice("1123")}
        return copy.deepcopy(wanted)

    def _member(self, table: Members) -> tuple[str, Any]:
        name = self._random.choice(sorted(table))
        return name, self._value(self._random.choice(table[name]))

    def _cut_out(self) -> str:
        stream, at, record = self._any()
        del self._streams[stream][at]
        return f" {record['kind']}"

    def _cut_and_insert(self) -> str:
        stream, at, record = self._any()
        other = self._random.choice([stream, *self._streams])
        line = copy.deepcopy(self._streams[stream][at])
        if self._random.random() < 0.6:
            del self._streams[stream][at]
        elif self._random.random() < 0.6:
            line[0]["id"] = b64url_encode(self._random.randbytes(16))
        self._streams[other].insert(self._random.randint(1, max(1, len(self._streams[other]))), line)
        return f" {record['kind']}"

    def _cut_value(self) -> str:
        places = [(one, path) for one in self._records() for path in walk(one) if path[-1] in VALUES and len(path) > 1]
        chosen = self._random.choice(sorted({path for _, path in places}, key=str))
        record = self._random.choice([one for one, path in places if path == chosen])
        value = within(record, chosen[:-1])[chosen[-1]] = self._random.choice(VALUES[chosen[-1]].split())
        return f" {record['kind']} {chosen} {value}"

    def _cut_from_another(self) -> str:
        _, _, record = self._any()
        path = self._random.choice([path for path in walk(record) if path[0] not in ("stream", "v", "kind")])
        _, _, other = self._any(record["kind"])
        within(record, path[:-1])[path[-1]] = copy.deepcopy(within(other, path))
        return f" {record['kind']} {path}"

    def _cut_member_out(self) -> str:
        _, _, record = self._any()
        path = self._random.choice([path for path in walk(record) if path[0] not in ("stream", "v", "kind", "id")])
        del within(record, path[:-1])[path[-1]]
        return f" {record['kind']} {path}"

    def _cut_member_in(self) -> str:
        _, _, record = self._any("intent", "outcome", "task_start", "mark")
        name, record[name] = self._member(MEMBERS)
        return f" {record['kind']} {name} {record[name]}"

    def _cut_detail(self) -> str:
        stream, at, record = self._any("outcome", "intent")
        name, value = self._member(MEMBERS)
        detail = {"_salt": "A" * 22, **(self._streams[stream][at][1] or {}), name: value}
        self._streams[stream][at] = (record, detail)
        if self._random.random() < 0.85:
            record["detail"] = digest_of(canonical(detail))
        return f" {record['kind']} {name} {value}"

    def _cut_time(self) -> str:
        _, _, record = self._any()
        _, _, other = self._any()
        moved = self._random.choice((0, 0, 0, -3600, -31, -30, 30, 31, 600, 4000))
        name = self._random.choice(("start", "start", "end"))
        record["time"][name] = str(int(other["time"]["start"]) + moved * 10**9)
        return f" {record['kind']} {name} {moved} after {other['kind']}"

    def _cut_moments_together(self) -> None:
        moment = self._any()[2]["time"]["start"]
        for record in self._records():
            record["time"]["start"] = moment

    def _cut_trust(self) -> str:
        """Change what the trust file says of a key, or of all."""
        entry = self._random.choice(self._trust["keys"])
        moment = int(self._any()[2]["time"]["start"]) // 10**9 + self._random.choice((-1, 0, 0, 1, 31))
        name = self._random.choice(("revoked_since", "revoked_since", "not_before", "not_after", "named", "named"))
        if name != "named":
            entry[name] = moment
            return f" {entry['purpose']} {name} {moment}"
        name = {"recorder": "origin", "issuer": "issuer"}.get(entry["purpose"], "quorum")
        at = self._trust if name == "quorum" or self._random.random() < 0.5 else entry
        value = self._random.choice((at.get(name), self._trust.get(name), ORIGIN, "agent-identity.example/", "other"))
        at[name] = 1 if name == "quorum" else value or "other"
        return f" {entry['purpose']} {name} {at[name]}"

    def _cut_heir(self) -> str:
        """Let another recorder take the log over, which then signs it or not."""
        moment = int(self._any()[2]["time"]["start"]) // 10**9 + self._random.choice((-31, -1, 0, 1, 31))
        times = self._random.choice(({}, {"not_before": moment}, {"not_before": moment}, {"not_after": moment}))
        jwk = {**STRANGER.public_key.to_jwk(), "kid": STRANGER.public_key.thumbprint, "alg": "EdDSA"}
        key = {**jwk, "purpose": "recorder", **times}
        self._trust["keys"] = [*(one for one in self._trust["keys"] if one.get("kid") != key["kid"]), key]
        self._signer = self._random.choice((RECORDER, STRANGER))
        old = next(one for one in self._trust["keys"] if one["purpose"] == "recorder")
        if self._random.random() < 0.7:
            old["revoked_since"] = moment + self._random.choice((-1, 0, 1))
        return f" {times} {self._signer is STRANGER} {old.get('revoked_since')}"

    def _cut_grant(self) -> str:
        token = self._any("grant")[2]["grant"]["token"]
        name, value = self._member(CLAIMS)
        self._regrant(token, self._random.random() < 0.8, **{name: value})
        return f" {name} {value}"

    def _cut_chain_deeper(self) -> str:
        """Let a call act under a longer chain, whose grants may name receivers."""
        stream, at, record = self._any("intent", "outcome", "task_start")
        tokens = self._tokens()
        self._regrant(tokens[record["chain"][0]["grant"]], True, del_max_depth=self._random.choice((8, 32, 32)))
        record, tokens = self._streams[stream][at][0], self._tokens()
        depth = self._random.choice((1, 2, 3, 31, 32, 33))
        while len(record["chain"]) <= depth:
            token = tokens[parent := record["chain"][-1]["grant"]]
            claims = claims_of(token) | {
                "par_hash": parent,
                "jti": f"00000000-0000-4000-8000-{len(record['chain']):012}",
            }
            claims |= {
                "del_depth": claims["del_depth"] + 1,
                "act": {"act": claims["act"], "sub": claims["agent"]["id"]},
            }
            signer = next(key for key in HOLDERS if key.public_key.to_jwk()["x"] == claims["cnf"]["jwk"]["x"])
            claims["iss"] = f"urn:ietf:params:oauth:jwk-thumbprint:sha-256:{signer.public_key.thumbprint}"
            claims |= self._random.choice(({}, {}, {}, {"aud": "orders"}, {"aud": "stock"}))
            token = sign_compact({"typ": "aat+jwt"}, claims, signer)
            record["chain"].append({"id": claims["agent"]["id"], "grant": hash_of(token)})
            tokens[hash_of(token)] = token
            said = {name: record[name] for name in ("time", "task", "principal", "agent", "v")}
            said |= {"id": b64url_encode(self._random.randbytes(16)), "chain": list(record["chain"])}
            self._streams[stream].insert(at, ({**said, "kind": "grant", "grant": {"token": token}}, None))
            at += 1
        return f" {record['kind']} {depth}"

    def _regrant(self, token: str, also_below: bool, **changes: Any) -> None:
        """Sign a grant with other claims, and all that is derived from it, and have all records say so."""
        claims = {name: value for name, value in (claims_of(token) | changes).items() if value is not None}
        thumbprints = {key.public_key.thumbprint: key for key in HOLDERS}
        signer = thumbprints.get(claims_of(token)["iss"].rpartition(":")[2], ISSUER)
        kid = {"kid": ISSUER.public_key.thumbprint} if signer is ISSUER else {}
        new = sign_compact({"typ": "aat+jwt", **kid}, claims, signer)
        below = sorted(self._tokens().values())
        for lines in self._streams.values():
            for at, (record, detail) in enumerate(lines):
                text = json.dumps([record, detail]).replace(token, new).replace(hash_of(token), hash_of(new))
                lines[at] = tuple(json.loads(text))
                said = lines[at][0].get("mark", {})
                if "token" in said:
                    said["token"] = self._resigned(said["token"], hash_of(token), new)
        for child in below:
            if also_below and claims_of(child).get("par_hash") == hash_of(token):
                self._regrant(child, True, par_hash=hash_of(new))

    def _resigned(self, mark: str, old: str, new: str) -> str:
        """Sign a mark again that names a grant, as the holder of the new one."""
        if old not in (said := claims_of(mark)).values():
            return mark
        said = {name: hash_of(new) if value == old else value for name, value in said.items()}
        holder = claims_of({**self._tokens(), hash_of(new): new}[said["by"]])["cnf"]["jwk"]["x"]
        signer = next(key for key in HOLDERS if key.public_key.to_jwk()["x"] == holder)
        return sign_compact({"typ": "agent-identity-mark+jwt"}, said, signer)

    def _sealed(self) -> Content:
        content, heads = dict(self._files), list[bytes]()
        for stream, lines in self._streams.items():
            if lines and lines[-1][0]["kind"] == "stream_end" and self._random.random() < 0.8:
                lines[-1][0]["end"] = {"size": str(len(lines))}
            leaves, out = list[bytes](), list[bytes]()
            for seq, (record, detail) in enumerate(lines, 1):
                place = {"id": stream, "seq": str(seq), **({"prev": b64url_encode(leaves[-1])} if leaves else {})}
                data = canonical({**record, "stream": place})
                out.append(framed(stream, data, canonical(detail) if detail else None))
                leaves.append(leaf_hash(data))
            for size in self._sizes(len(leaves)):
                said = {"origin": ORIGIN, "root": b64url_encode(root_of(leaves[:size])), "size": str(size)}
                heads.append(canonical({**said, "stream": stream, "time": "1764000003000000000"}))
            self._write(content, f"ledger/{stream}/entries", out)
        content["log/entries.jsonl"] = logged(heads)
        content["log/checkpoint"] = noted(heads[: len(heads) - (self._random.random() < 0.05)], signer=self._signer)
        for key in self._trust["keys"]:
            if key.get("kid") == STRANGER.public_key.thumbprint and heads and self._random.random() < 0.8:
                size = self._random.randint(1, len(heads))
                root = root_of([leaf_hash(head) for head in heads[:size]])
                key["takes_over"] = {"size": str(size), "root": b64url_encode(root)}
        content["trust.json"] = json.dumps(self._trust).encode()
        return content

    def _sizes(self, size: int) -> list[int]:
        """Return over how many records the heads of a stream are: all, as a rule."""
        if self._random.random() < (0.9 if self._signer is RECORDER else 0.3) or not size:
            return [size]
        return sorted(self._random.randint(1, size) for _ in range(self._random.randint(0, 3)))

    def _write(self, content: Content, name: str, lines: list[bytes]) -> None:
        """Write a stream to its file, or to two, the first of which may be compressed and damaged."""
        at = self._random.randint(1, len(lines)) if len(lines) > 1 and self._random.random() < 0.2 else 0
        content[f"{name}.jsonl"] = b"".join(lines[at:])
        if not at:
            return
        data = b"".join(lines[:at])
        packed = gzip.compress(data, mtime=0)
        hurt = self._random.randrange(len(packed))
        spoiled = packed[:hurt] + bytes([packed[hurt] ^ 1 << self._random.randrange(8)]) + packed[hurt + 1 :]
        forms = ({"": data}, {".gz": packed}, {".gz": packed}, {".gz": spoiled}, {".gz": packed[:-hurt]})
        for ending, written in self._random.choice(forms).items():
            content[f"{name}-{1:020}.jsonl{ending}"] = written
