"""Chains that must be refused, and every type of constraint: what it permits, refuses and covers."""

from typing import Any, Final

from insider import ALICE, BEGIN, CLERK, HELPER, HOLDERS, ISSUER, ISSUER_URI, STRANGER, canonical, digest

from agent_identity import Scope
from agent_identity._authority.grants.grants import Chain, derive, issue
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.ids import id_of, uuid_of
from agent_identity._identity.keys.jws import parse_compact, sign_compact
from agent_identity.canonical import decode
from agent_identity.constraints import IfGiven, OneOf, Range
from agent_identity.identity import SigningKey
from agent_identity.limits import Limit

Claims = dict[str, Any]


def _id(number: int) -> str:
    return uuid_of(id_of(BEGIN * 10**9, number.to_bytes(8, "big")))


SCOPE: Final = (
    Scope("read")
    | Scope("pay", amount=Range(max=100), iban=OneOf("GB82", "DE89"))
    | Scope("search", words=IfGiven(Range(min=1, max=9)))
)
ROOT: Final = issue(
    ISSUER,
    issuer=ISSUER_URI,
    task_id="task-1",
    principal=ALICE,
    agent=CLERK,
    holder=HOLDERS[0].public_key,
    scope=SCOPE,
    now=BEGIN,
    ttl=600,
    max_depth=2,
    id=_id(1),
    audience="orders",
    limits=(Limit.uses("*", 3),),
)
CHILD: Final = derive(
    Chain((ROOT,)),
    HOLDERS[0],
    agent=HELPER,
    holder=HOLDERS[1].public_key,
    scope=Scope("pay", amount=Range(max=50), iban="GB82"),
    now=BEGIN + 5,
    ttl=500,
    id=_id(2),
)
TYPE: Final = "attenuating_agent_token"


def _tools(**tools: Claims) -> Claims:
    return {"authorization_details": [{"tools": tools, "type": TYPE}]}


_MAX_50: Final = {"constraint_type": "range", "max": 50}
_GB: Final = {"constraint_type": "exact", "value": "GB82"}
_SMALL: Final = {"constraint_type": "range", "max": 5, "min": 2}

CHILDREN: Final[tuple[tuple[str, str, str | None, Claims, dict[str, Any]], ...]] = (
    ("good", "A child that asks for less.", None, {}, {}),
    ("same", "A child that asks for all that its parent has.", None, {"authorization_details": None}, {}),
    ("named-key", "A child that names the key of its parent's holder.", None, {}, {"kid": HOLDERS[0]}),
    ("tool-too-many", "A tool that the parent does not have.", "tool_not_attenuated", _tools(read={}, wipe={}), {}),
    (
        "argument-too-many",
        "An argument that the parent does not name.",
        "argument_not_attenuated",
        _tools(pay={"amount": _MAX_50, "iban": _GB, "memo": _GB}),
        {},
    ),
    (
        "argument-missing",
        "An argument that the parent names is free.",
        "argument_not_attenuated",
        _tools(pay={"amount": _MAX_50}),
        {},
    ),
    ("tool-opened", "A tool whose arguments the parent bounds is open.", "argument_not_attenuated", _tools(pay={}), {}),
    (
        "range-wider",
        "A range beyond that of the parent.",
        "argument_not_attenuated",
        _tools(pay={"amount": {"constraint_type": "range", "max": 101}, "iban": _GB}),
        {},
    ),
    (
        "range-unbounded-below",
        "A range with another bound than the parent's.",
        "argument_not_attenuated",
        _tools(pay={"amount": {"constraint_type": "range", "min": 0}, "iban": _GB}),
        {},
    ),
    (
        "values-wider",
        "A value that the parent does not have.",
        "argument_not_attenuated",
        _tools(pay={"amount": _MAX_50, "iban": {"constraint_type": "one_of", "values": ["GB82", "FR76"]}}),
        {},
    ),
    (
        "wildcard",
        "Any value where the parent has a list.",
        "argument_not_attenuated",
        _tools(pay={"amount": _MAX_50, "iban": {"constraint_type": "wildcard"}}),
        {},
    ),
    ("optional-required", "An optional argument is required.", None, _tools(search={"words": _SMALL}), {}),
    (
        "optional-kept",
        "An optional argument stays optional.",
        None,
        _tools(search={"words": {**_SMALL, "optional": True}}),
        {},
    ),
    (
        "optional-only-dropped",
        "A tool is open, of which the parent bounds an optional argument.",
        "argument_not_attenuated",
        _tools(search={}),
        {},
    ),
    (
        "required-optional",
        "A required argument is optional.",
        "argument_not_attenuated",
        _tools(pay={"amount": {**_MAX_50, "optional": True}, "iban": _GB}),
        {},
    ),
    ("open-tool-bounded", "An open tool gets bounds.", None, _tools(read={"path": _GB}), {}),
    (
        "type-unknown",
        "A type of constraint that nobody knows.",
        "unknown_constraint",
        _tools(read={"path": {"constraint_type": "cidr", "value": "10.0.0.0/8"}}),
        {},
    ),
    (
        "constraint-member",
        "A constraint with a member that its type does not have.",
        "bad_constraint",
        _tools(read={"path": {**_GB, "note": "x"}}),
        {},
    ),
    ("no-tools", "A child without tools.", "bad_scope", _tools(), {}),
    (
        "another-entry",
        "An entry of authority of another type.",
        "unknown_entry",
        {"authorization_details": [{"tools": {"read": {}}, "type": "payment"}]},
        {},
    ),
    (
        "two-entries",
        "Two entries of authority.",
        "bad_claim",
        {"authorization_details": [{"tools": {"read": {}}, "type": TYPE}, {"tools": {"read": {}}, "type": TYPE}]},
        {},
    ),
    ("outlives", "A child that ends after its parent.", "outlives_parent", {"exp": BEGIN + 601}, {}),
    ("older", "A child that was issued before its parent.", "issued_before_parent", {"iat": BEGIN - 1}, {}),
    ("skips-depth", "A child two levels below its parent.", "wrong_depth", {"del_depth": 2}, {}),
    (
        "deeper",
        "A child that may be delegated further than its parent.",
        "depth_not_attenuated",
        {"del_max_depth": 3},
        {},
    ),
    ("shallower", "A child that may be delegated less than its parent.", None, {"del_max_depth": 1}, {}),
    ("another-parent", "A child of another parent.", "wrong_parent", {"par_hash": digest("parent")}, {}),
    ("no-parent", "A child that names no parent.", "wrong_parent", {"par_hash": None}, {}),
    ("another-task", "A child of another task.", "wrong_task", {"txn": "task-2"}, {}),
    ("another-audience", "A child for another receiver.", "audience_not_attenuated", {"aud": "stock"}, {}),
    (
        "higher-limit",
        "A child with a higher limit.",
        "limits_changed",
        {"limits": [{"kind": "uses", "max": 4, "tool": "*"}]},
        {},
    ),
    (
        "lower-limit",
        "A child with a lower limit.",
        "limits_changed",
        {"limits": [{"kind": "uses", "max": 2, "tool": "*"}]},
        {},
    ),
    ("no-limit", "A child without the limit of its parent.", "limits_changed", {"limits": None}, {}),
    ("same-id", "A child with the id of its parent.", "duplicate_id", {"jti": ROOT.id}, {}),
    ("id-in-capitals", "A child with an id in capitals.", "bad_claim", {"jti": _id(2).upper()}, {}),
    ("claim-too-many", "A claim that grants do not have.", "unknown_claim", {"nonce": "x"}, {}),
    ("claim-missing", "A claim is missing.", "missing_claim", {"agent": None}, {}),
    ("other-history", "A history that leaves out an agent.", "bad_history", {"act": {"sub": "helper"}}, {}),
    ("other-issuer", "Another issuer than the parent's holder.", "wrong_issuer", {"iss": ISSUER_URI}, {}),
    ("by-stranger", "A child that a stranger signed.", "bad_signature", {}, {"signer": STRANGER}),
    ("by-issuer", "A child that the issuer signed.", "bad_signature", {}, {"signer": ISSUER}),
    ("by-itself", "A child that its own holder signed.", "bad_signature", {}, {"signer": HOLDERS[1]}),
    ("names-stranger", "A child that names the key of a stranger.", "wrong_key", {}, {"kid": STRANGER}),
    ("type-of-a-ruling", "A child of another type of token.", "wrong_type", {}, {"typ": "agent-approval+jwt"}),
    ("header-too-many", "A header with a key.", "unknown_header", {}, {"jwk": True}),
    ("cut", "A child whose signature is cut.", "malformed_token", {}, {"cut": True}),
    ("not-canonical", "A child whose claims have a space.", "not_canonical", {}, {"space": True}),
)
"""Below one root: name, sentence, code of the refusal or none, changed claims, and how it is signed otherwise."""


def child(changes: Claims, how: dict[str, Any]) -> str:
    """Return a child with changed claims, signed as said."""
    claims: Claims = {**decode(parse_compact(CHILD.token).payload), **changes}  # type: ignore[dict-item]
    if claims["authorization_details"] is None:
        claims["authorization_details"] = decode(parse_compact(ROOT.token).payload)["authorization_details"]  # type: ignore[index,call-overload]
    claims = {name: value for name, value in claims.items() if value is not None}
    header: dict[str, Any] = {"typ": how.get("typ", "aat+jwt")}
    if "kid" in how:
        header["kid"] = how["kid"].public_key.thumbprint
    signer: SigningKey = how.get("signer", HOLDERS[0])
    if "jwk" in how:
        return _signed({"alg": "Ed25519", "jwk": STRANGER.public_key.to_jwk(), **header}, canonical(claims), signer)
    if "space" in how:
        head = {"alg": "Ed25519", **header}
        return _signed(head, canonical(claims).replace(b'"del_depth":1', b'"del_depth": 1'), signer)
    token = sign_compact(header, claims, signer)
    return token[:-4] if how.get("cut") else token


def _signed(header: dict[str, Any], payload: bytes, signer: SigningKey) -> str:
    text = f"{b64url_encode(canonical(header))}.{b64url_encode(payload)}"
    return f"{text}.{b64url_encode(signer.sign(text.encode()))}"


def children() -> list[dict[str, object]]:
    """Return children of one root, with the code of their refusal."""
    return [
        {"name": name, "what": what, "code": code, "root": ROOT.token, "child": child(changes, how), "at": BEGIN + 10}
        for name, what, code, changes, how in CHILDREN
    ]


PERMITS: Final[tuple[tuple[Claims, list[Any], list[Any]], ...]] = (
    ({"constraint_type": "exact", "value": 1}, [1, 1.0], [True, "1", 1.5, None, [1]]),
    ({"constraint_type": "exact", "value": "a"}, ["a"], ["A", "a ", "", "á", 1, ["a"]]),
    ({"constraint_type": "exact", "value": None}, [None], [False, 0, "", "null"]),
    ({"constraint_type": "exact", "value": True}, [True], [1, "true", False]),
    ({"constraint_type": "one_of", "values": ["a", 2]}, ["a", 2, 2.0], ["b", "2", True, None]),
    ({"constraint_type": "one_of", "values": [[1, 2]]}, [[1, 2], [1.0, 2]], [[2, 1], [1], 1, "[1,2]"]),
    ({"constraint_type": "one_of", "values": [{"a": 1}]}, [{"a": 1}], [{"a": 2}, {}, {"a": 1, "b": 2}]),
    ({"constraint_type": "not_one_of", "excluded": ["a", 1]}, ["b", 2, None, True, [], "A"], ["a", 1, 1.0]),
    ({"constraint_type": "range", "max": 10, "min": 0}, [0, 10, 5.5, 0.0], [-1, 10.1, "5", True, None]),
    (
        {"constraint_type": "range", "max": 10, "max_inclusive": False, "min": 0, "min_inclusive": False},
        [0.1, 9],
        [0, 10],
    ),
    ({"constraint_type": "range", "min": 1.5}, [1.5, 1e300], [1.4, "2"]),
    (
        {"constraint_type": "contains", "required": ["a", 1]},
        [["a", 1], [1, "b", "a"]],
        [["a"], [], "a", {"a": 1}, ["a", True]],
    ),
    (
        {"constraint_type": "subset", "allowed": ["a", 1]},
        [[], ["a"], [1, 1, "a"], [1.0]],
        [["b"], ["a", "b"], "a", [True], None],
    ),
    ({"constraint_type": "wildcard"}, [None, 0, "", [], {}, "x"], []),
    (
        {
            "constraint_type": "all",
            "constraints": [{"constraint_type": "range", "min": 1}, {"constraint_type": "range", "max": 9}],
        },
        [1, 9],
        [0, 10, "5"],
    ),
    (
        {
            "constraint_type": "any",
            "constraints": [
                {"constraint_type": "exact", "value": "all"},
                {"constraint_type": "range", "max": 9, "min": 1},
            ],
        },
        ["all", 7],
        ["al", 10, None],
    ),
    ({"constraint_type": "prefix", "prefix": "INV-"}, ["INV-", "INV-42"], ["inv-42", " INV-42", "", 42]),
    (
        {"constraint_type": "path_within", "root": "/data"},
        ["/data", "/data/a.txt", "a.txt", "/data/a/b", "/data/.env"],
        [
            "/database",
            "/data/../etc/passwd",
            "../etc",
            "/",
            "",
            "~/x",
            "//data/a",
            "/data/a\x00",
            "/data/%2e%2e/x",
            "/data\\x",
            "/data/..a",
            "c:/x",
            "/data/a ",
            "/data/a\u200b",
            1,
        ],
    ),
    (
        {"constraint_type": "url_within", "prefix": "https://api.example.com/v1"},
        ["https://api.example.com/v1", "https://api.example.com/v1/x?q=1", "https://api.example.com/v1/"],
        [
            "https://api.example.com/v1x",
            "http://api.example.com/v1",
            "https://api.example.com/v1/../v2",
            "https://api.example.com@evil.example/v1",
            "https://evil.example/v1",
            "https://api.example.com:444/v1",
            "https://api.example.com/v1/%2e%2e/v2",
            "https://api.example.com/v1\\x",
            "//api.example.com/v1",
            "https://api.example.com/v1/é",
            "",
        ],
    ),
    (
        {"constraint_type": "email_domain", "domains": ["example.com"]},
        ["a@example.com", "a.b@EXAMPLE.com"],
        [
            "a@x.example.com",
            "a@example.com.evil.example",
            "a@b@example.com",
            "example.com",
            "@example.com",
            "A <a@example.com>",
            "a@example.com,b@evil.example",
            "a@example.com\n",
            "a@\u0435xample.com",
        ],
    ),
)
"""A constraint, values that it permits, and values that it refuses."""

COVERS: Final[tuple[tuple[bool, Claims, Claims], ...]] = (
    (True, {"constraint_type": "exact", "value": 1}, {"constraint_type": "exact", "value": 1.0}),
    (False, {"constraint_type": "exact", "value": 1}, {"constraint_type": "exact", "value": "1"}),
    (False, {"constraint_type": "exact", "value": 1}, {"constraint_type": "one_of", "values": [1]}),
    (True, {"constraint_type": "one_of", "values": [1, 2]}, {"constraint_type": "exact", "value": 2}),
    (True, {"constraint_type": "one_of", "values": [1, 2]}, {"constraint_type": "one_of", "values": [2]}),
    (False, {"constraint_type": "one_of", "values": [1, 2]}, {"constraint_type": "one_of", "values": [2, 3]}),
    (False, {"constraint_type": "one_of", "values": [1, 2]}, {"constraint_type": "range", "max": 2, "min": 1}),
    (True, {"constraint_type": "not_one_of", "excluded": [1]}, {"constraint_type": "not_one_of", "excluded": [1, 2]}),
    (False, {"constraint_type": "not_one_of", "excluded": [1, 2]}, {"constraint_type": "not_one_of", "excluded": [1]}),
    (False, {"constraint_type": "not_one_of", "excluded": [1]}, {"constraint_type": "exact", "value": 2}),
    (True, {"constraint_type": "range", "max": 10}, {"constraint_type": "range", "max": 10, "min": 0}),
    (True, {"constraint_type": "range", "max": 10}, {"constraint_type": "exact", "value": 10}),
    (True, {"constraint_type": "range", "max": 10}, {"constraint_type": "range", "max": 10, "max_inclusive": False}),
    (False, {"constraint_type": "range", "max": 10, "max_inclusive": False}, {"constraint_type": "range", "max": 10}),
    (False, {"constraint_type": "range", "max": 10, "min": 0}, {"constraint_type": "range", "max": 10}),
    (False, {"constraint_type": "range", "max": 10}, {"constraint_type": "one_of", "values": [1]}),
    (True, {"constraint_type": "contains", "required": ["a"]}, {"constraint_type": "contains", "required": ["a", "b"]}),
    (
        False,
        {"constraint_type": "contains", "required": ["a", "b"]},
        {"constraint_type": "contains", "required": ["a"]},
    ),
    (True, {"constraint_type": "subset", "allowed": ["a", "b"]}, {"constraint_type": "subset", "allowed": ["a"]}),
    (False, {"constraint_type": "subset", "allowed": ["a"]}, {"constraint_type": "subset", "allowed": ["a", "b"]}),
    (True, {"constraint_type": "wildcard"}, {"constraint_type": "prefix", "prefix": "a"}),
    (True, {"constraint_type": "wildcard"}, {"constraint_type": "wildcard"}),
    (False, {"constraint_type": "prefix", "prefix": "a"}, {"constraint_type": "wildcard"}),
    (
        True,
        {
            "constraint_type": "all",
            "constraints": [{"constraint_type": "range", "max": 9}, {"constraint_type": "range", "min": 1}],
        },
        {"constraint_type": "all", "constraints": [{"constraint_type": "range", "max": 5, "min": 2}]},
    ),
    (
        False,
        {
            "constraint_type": "all",
            "constraints": [{"constraint_type": "range", "max": 9}, {"constraint_type": "range", "min": 1}],
        },
        {"constraint_type": "all", "constraints": [{"constraint_type": "range", "max": 5}]},
    ),
    (
        False,
        {"constraint_type": "all", "constraints": [{"constraint_type": "range", "max": 9}]},
        {"constraint_type": "range", "max": 5},
    ),
    (
        True,
        {
            "constraint_type": "any",
            "constraints": [{"constraint_type": "exact", "value": "a"}, {"constraint_type": "range", "max": 9}],
        },
        {"constraint_type": "any", "constraints": [{"constraint_type": "range", "max": 5}]},
    ),
    (
        False,
        {"constraint_type": "any", "constraints": [{"constraint_type": "exact", "value": "a"}]},
        {"constraint_type": "any", "constraints": [{"constraint_type": "exact", "value": "b"}]},
    ),
    (
        False,
        {"constraint_type": "any", "constraints": [{"constraint_type": "exact", "value": "a"}]},
        {"constraint_type": "exact", "value": "a"},
    ),
    (True, {"constraint_type": "path_within", "root": "/data"}, {"constraint_type": "path_within", "root": "/data/a"}),
    (False, {"constraint_type": "path_within", "root": "/data/a"}, {"constraint_type": "path_within", "root": "/data"}),
    (
        False,
        {"constraint_type": "path_within", "root": "/data"},
        {"constraint_type": "path_within", "root": "/database"},
    ),
    (True, {"constraint_type": "path_within", "root": "/data"}, {"constraint_type": "exact", "value": "/data/a"}),
    (False, {"constraint_type": "path_within", "root": "/data"}, {"constraint_type": "exact", "value": "/etc"}),
    (
        True,
        {"constraint_type": "url_within", "prefix": "https://a.example/v1"},
        {"constraint_type": "url_within", "prefix": "https://a.example/v1/x"},
    ),
    (
        False,
        {"constraint_type": "url_within", "prefix": "https://a.example/v1"},
        {"constraint_type": "url_within", "prefix": "https://a.example/v12"},
    ),
    (
        True,
        {"constraint_type": "url_within", "prefix": "https://a.example/v1"},
        {"constraint_type": "one_of", "values": ["https://a.example/v1/x"]},
    ),
    (
        True,
        {"constraint_type": "email_domain", "domains": ["a.example", "b.example"]},
        {"constraint_type": "email_domain", "domains": ["b.example"]},
    ),
    (
        False,
        {"constraint_type": "email_domain", "domains": ["a.example"]},
        {"constraint_type": "email_domain", "domains": ["x.a.example"]},
    ),
    (
        True,
        {"constraint_type": "email_domain", "domains": ["a.example"]},
        {"constraint_type": "exact", "value": "x@a.example"},
    ),
    (True, {"constraint_type": "prefix", "prefix": "INV-"}, {"constraint_type": "prefix", "prefix": "INV-4"}),
    (False, {"constraint_type": "prefix", "prefix": "INV-4"}, {"constraint_type": "prefix", "prefix": "INV-"}),
    (
        True,
        {"constraint_type": "prefix", "prefix": "INV-"},
        {"constraint_type": "one_of", "values": ["INV-1", "INV-2"]},
    ),
)
"""Whether a parent covers a child, the parent, and the child."""

MALFORMED: Final[tuple[tuple[str, Any], ...]] = (
    ("bad_constraint", {"constraint_type": "exact"}),
    ("bad_constraint", {"constraint_type": "exact", "value": [1]}),
    ("bad_constraint", {"constraint_type": "one_of", "values": []}),
    ("bad_constraint", {"constraint_type": "one_of", "values": "a"}),
    ("bad_constraint", {"constraint_type": "not_one_of", "excluded": []}),
    ("bad_constraint", {"constraint_type": "range"}),
    ("bad_constraint", {"constraint_type": "range", "max": "5"}),
    ("bad_constraint", {"constraint_type": "range", "max": True}),
    ("bad_constraint", {"constraint_type": "range", "max": 1, "min": 2}),
    ("bad_constraint", {"constraint_type": "range", "max": 1, "min_inclusive": False}),
    ("bad_constraint", {"constraint_type": "contains", "required": []}),
    ("bad_constraint", {"constraint_type": "subset", "allowed": []}),
    ("bad_constraint", {"constraint_type": "wildcard", "value": 1}),
    ("bad_constraint", {"constraint_type": "all", "constraints": []}),
    ("bad_constraint", {"constraint_type": "any", "constraints": []}),
    ("unknown_constraint", {"constraint_type": "any", "constraints": [{"constraint_type": "regex", "value": ".*"}]}),
    ("unknown_constraint", {"constraint_type": "Exact", "value": 1}),
    ("unknown_constraint", {"value": 1}),
    ("bad_constraint", {"constraint_type": "path_within", "root": "data"}),
    ("bad_constraint", {"constraint_type": "path_within", "root": "/data/../x"}),
    ("bad_constraint", {"constraint_type": "url_within", "prefix": "ftp://a.example/"}),
    ("bad_constraint", {"constraint_type": "url_within", "prefix": "https://u@a.example/"}),
    ("bad_constraint", {"constraint_type": "email_domain", "domains": []}),
    ("bad_constraint", {"constraint_type": "email_domain", "domains": ["@a.example"]}),
    ("bad_constraint", {"constraint_type": "prefix", "prefix": ""}),
)
"""The code of the refusal, and the constraint."""


def constraints() -> dict[str, object]:
    """Return the constraints with what they do."""
    return {
        "permits": [{"constraint": one, "permits": yes, "refuses": no} for one, yes, no in PERMITS],
        "covers": [{"covers": holds, "parent": parent, "child": below} for holds, parent, below in COVERS],
        "malformed": [{"code": code, "constraint": one} for code, one in MALFORMED],
    }
