"""Ready-made declarations: normal names, no values in clear text, and unknown for what cannot be read."""

import logging
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._policy.decision.resources import CallTouches, touches_of_call
from agent_identity.errors import ConfigurationError
from agent_identity.policy import (
    Touch,
    file_touches,
    http_touches,
    mail_touches,
    mcp_resource_touches,
    vector_touches,
)

SECRET = "sk-live-4f9aQ7ZxPq81LmNoPq22"
UNKNOWN = "unknown"


def touched(declared: CallTouches, **arguments: object) -> tuple[Touch, ...]:
    """Return the resources that a declaration names for a call."""
    return touches_of_call((), (declared,), arguments)


def one(declared: CallTouches, **arguments: object) -> tuple[str, str, str | None]:
    """Return system, name and filled name of the one resource of a call."""
    (touch,) = touched(declared, **arguments)
    return touch.system, touch.name, touch.filled


# Files


@pytest.mark.skipif(os.name == "nt", reason="the paths are those of POSIX")
@pytest.mark.parametrize(
    ("path", "filled"),
    [
        ("/data/../etc/passwd", "/etc/passwd"),
        ("//data///a/./b/", "/data/a/b"),
        ("/../../x", "/x"),
        ("a/../b", "b"),
        ("/data/%2e%2e/x", "/data/%2e%2e/x"),
        ("C:\\x\\..\\y", "C:\\x\\..\\y"),
    ],
)
def test_paths_are_normalized_as_text(path: str, filled: str) -> None:
    """Dots and doubled slashes go; escapes mean nothing in a path; the value itself is never the name."""
    assert one(file_touches("path", "read"), path=path) == ("file", "{path}", filled)


@pytest.mark.skipif(os.name == "nt", reason="the paths are those of POSIX")
def test_a_root_stands_in_clear_text() -> None:
    """The deepest root that holds the path; a path that leaves it by dots, or only begins like it, is outside."""
    declared = file_touches("path", "write", base="/srv", roots=["/srv/", "/srv/reports/../exports"], data=["internal"])
    assert one(declared, path="exports/a.csv") == ("file", "/srv/exports/{path}", "/srv/exports/a.csv")
    assert one(declared, path="/srv/x") == ("file", "/srv/{path}", "/srv/x")
    assert one(declared, path="exports/../../etc/passwd") == ("file", "{path}", "/etc/passwd")
    assert one(declared, path="/srv2/x") == ("file", "{path}", "/srv2/x")
    assert one(file_touches("path", "read", roots=["/"]), path="/x") == ("file", "/{path}", "/x")
    (touch,) = touched(declared, path="x")
    assert (touch.access, touch.data) == ("write", ("internal",))


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_are_not_followed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The name is that of the link, since no file is looked at."""
    folder = tmp_path_factory.mktemp("links")
    (folder / "link").symlink_to("/etc/passwd")
    assert one(file_touches("path", "read"), path=f"{folder}/link")[2] == f"{folder}/link"


@pytest.mark.parametrize(
    "path", ["", "~/x", "~root", "file:///etc/passwd", "a\0b", "a\nb", b"/x", None, 7, ["/x"], "x" * 9_000]
)
def test_other_values_are_unknown_files(path: object) -> None:
    """What is no plain path names no file, and raises nothing."""
    assert one(file_touches("path", "read"), path=path) == ("file", UNKNOWN, None)
    assert one(file_touches("path", "read")) == ("file", UNKNOWN, None)


def test_wrong_folders_are_refused() -> None:
    """A relative base or root, and braces in a root, are errors at the declaration."""
    with pytest.raises(ValueError, match="relative"):
        file_touches("path", "read", base="data")
    with pytest.raises(ValueError, match="relative"):
        file_touches("path", "read", roots=["data"])
    with pytest.raises(ValueError, match="name"):
        file_touches("path", "read", roots=["/data/{x"])


# HTTP


@pytest.mark.parametrize(
    ("url", "system", "filled"),
    [
        ("HTTP://USER:PW@HOST:443/..%2f", "http://host:443", "/..%2F"),
        ("https://User:Pw@API.example.com.:443/a/./b/../c?key=1#f", "https://api.example.com", "/a/c"),
        ("http://h.example:80", "http://h.example", "/"),
        ("https://h.example/%7euser/%2e%2e/x%2f", "https://h.example", "/x%2F"),
        ("https://bücher.example/", "https://xn--bcher-kva.example", "/"),
        ("https://\uff25\uff38\uff21MPLE.com/", "https://example.com", "/"),
        ("http://[0:0:0:0:0:0:0:1]:8080/", "http://[::1]:8080", "/"),
        ("https://127.0.0.1/a/..", "https://127.0.0.1", "/"),
        ("wss://h.example:443/s", "wss://h.example", "/s"),
    ],
)
def test_urls_have_one_form(url: str, system: str, filled: str) -> None:
    """Host in lower case and ASCII, no default port, no credentials, no query, no fragment, no dot segments."""
    assert one(http_touches("url"), url=url) == (system, "{url}", filled)


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "//h/x", "https:h", "https:/h", "https:///x", "ftp://h/x", "javascript:1", "file:///x"),
        *("https://a@b@h/", "https://h\\@evil/", "https://h /", "https://h/\n", "https://h:99999/", "https://h:x/"),
        *("https://127.1/", "https://0x7f.0.0.1/", "https://2130706433/", "https://faß.de/", "https://h%2eevil/"),
        *(
            "https://[::1/",
            "https://[v1.x]/",
            "https://[fe80::1%25eth0]/",
            "https://-h/",
            "https://a..b/",
            "https://\u2100.com/",
            None,
            7,
            b"x",
        ),
    ],
)
def test_urls_with_several_readings_are_unknown(url: object) -> None:
    """What libraries read differently, and what leads nowhere, names no host."""
    assert one(http_touches("url"), url=url) == (UNKNOWN, UNKNOWN, None)


def test_routes_stand_in_clear_text() -> None:
    """A route fits whole segments; an escaped slash, dots and parameters fit no variable."""
    declared = http_touches("url", routes=["/v1/invoices/{id}", "/v1/health"])
    at = "https://h.example"
    assert one(declared, url=f"{at}/v1/invoices/7?token={SECRET}") == (at, "/v1/invoices/{id}", "/v1/invoices/7")
    assert one(declared, url=f"{at}/v1/x/../health")[1] == "/v1/health"
    for path in ("/v1/invoices/..%2Fadmin", "/v1/invoices/", "/v1/invoices/7/x", "/v1/invoices/a;b", "/V1/health"):
        assert one(declared, url=at + path)[1] == "{url}"
    with pytest.raises(ValueError, match="segment"):
        http_touches("url", routes=["/v1/a{id}"])
    with pytest.raises(TypeError, match="routes"):
        http_touches("url", routes="/v1")


def test_the_method_decides_the_access() -> None:
    """Of known methods; others have the access that is stated."""
    declared = http_touches("url", "execute", method="verb")
    accesses = [
        touched(declared, url="https://h.example/", verb=verb)[0].access
        for verb in ("get", "PUT", "POST", "DELETE", "PATCH", "BREW", None)
    ]
    assert accesses == ["read", "write", "send", "delete", "write", "execute", "execute"]


def test_a_host_that_looks_like_a_secret_is_not_shown() -> None:
    """The digest alone has it."""
    for host in ("a1b2c3d4e5f6a7b8c9d0.evil.example", "sk-live-abcdefghijkl.evil.example", ".".join("abcdefghijkl")):
        assert one(http_touches("url"), url=f"https://{host}/x") == ("https", "{url}", f"{host}/x")


# MCP, vector stores, mail


@pytest.mark.parametrize(
    ("uri", "name", "filled"),
    [
        ("NOTES://Daily/2026-01-01?x=1#y", "notes://daily/{date}", "notes://daily/2026-01-01"),
        ("notes://u:p@daily/../x/y", "{uri}", "notes://daily/x/y"),
        ("file:///a/../b", "{uri}", "file:///b"),
        ("https://U:P@H.example:443/x?y", "{uri}", "https://h.example/x"),
        ("urn:isbn:1?x", "{uri}", "urn:isbn:1"),
    ],
)
def test_mcp_resources_are_uris(uri: str, name: str, filled: str) -> None:
    """The server is the system; a declared template stands in clear text."""
    declared = mcp_resource_touches("uri", "files", resources=["notes://daily/{date}"])
    assert one(declared, uri=uri) == ("mcp://files", name, filled)


def test_other_texts_are_unknown_resources() -> None:
    """What is no URI, or has several readings; a server has a plain name."""
    for uri in ("", "x", ":x", "a b:c", "x://a@b@c/", "x:\\y", None):
        assert one(mcp_resource_touches("uri", "files"), uri=uri) == ("mcp://files", UNKNOWN, None)
    with pytest.raises(ValueError, match="server"):
        mcp_resource_touches("uri", "a/b")


def test_vector_collections_are_named_where_they_are_declared() -> None:
    """A declared collection is in clear text, another one is a digest."""
    declared = vector_touches("into", "qdrant://db:6333", "write", collections=["handbook"], data=["internal"])
    assert one(declared, into="handbook") == ("qdrant://db:6333", "handbook", None)
    assert one(declared, into="other") == ("qdrant://db:6333", "{into}", "other")
    assert one(declared, into=None) == ("qdrant://db:6333", UNKNOWN, None)
    with pytest.raises(TypeError, match="collections"):
        vector_touches("into", "qdrant://db", collections="handbook")


def test_mail_names_domains() -> None:
    """Each recipient once, with its domain in clear text; what is no address is unknown beside the others."""
    declared = mail_touches("to", "cc?", data=["internal"])
    found = touched(declared, to="Bob <bob@Example.COM>, carol@example.com; x", cc=["bob@bücher.example"])
    assert [(touch.system, touch.name, touch.filled) for touch in found] == [
        ("mailto:example.com", "{to}", "bob@example.com"),
        ("mailto:example.com", "{to}", "carol@example.com"),
        ("mailto", UNKNOWN, None),
        ("mailto:xn--bcher-kva.example", "{cc}", "bob@xn--bcher-kva.example"),
    ]
    assert {(touch.access, touch.data) for touch in found} == {("send", ("internal",))}
    for to in (None, 7, [], "", "a@b@c.de", "a@faß.de", "@x.de", "a@x", '"a" <a@x.de', "a\n@x.de"):
        assert one(declared, to=to) == ("mailto", UNKNOWN, None)
    many = touched(declared, to=[f"u{number}@example.com" for number in range(100)])
    assert (len(many), many[-1].name) == (64, UNKNOWN)
    with pytest.raises(ValueError, match="recipients"):
        mail_touches()


# All


def _declared() -> Sequence[CallTouches]:
    ready = [
        file_touches("value", "read", roots=["/srv"]),
        http_touches("value", routes=["/v1/{id}"]),
        mcp_resource_touches("value", "files"),
        vector_touches("value", "qdrant://db"),
        mail_touches("value"),
    ]
    try:
        from agent_identity.policy import sql_touches

        ready.append(sql_touches("value", "postgres://db", dialect="postgres"))
    except ConfigurationError:
        pass
    return ready


DECLARED = _declared()
TEXTS = st.one_of(
    st.text(max_size=60),
    st.sampled_from(["https://", "/", "SELECT * FROM ", "mailto:", "a@"]).flatmap(
        lambda start: st.text(max_size=30).map(lambda rest: f"{start}{rest}")
    ),
    st.none() | st.integers() | st.binary(max_size=4) | st.lists(st.text(max_size=9), max_size=3),
)


@given(TEXTS)
def test_no_value_raises(value: object) -> None:
    """Whatever the argument is, the declaration returns resources."""
    for declared in DECLARED:
        found = touched(declared, value=value)
        assert len(found) <= 64
        assert all(isinstance(touch, Touch) for touch in found)


@given(st.sampled_from(["", "https://h.example/", "https://h.example/x?k=", "/srv/", "notes://x/", "a@"]))
def test_names_hold_no_secret_and_no_query(before: str) -> None:
    """System and name show neither a secret nor a query, wherever it stands in the argument."""
    values = [
        f"{before}{SECRET}",
        f"https://{SECRET}@h.example/",
        f"https://{SECRET}.example/",
        " ".join(["SELECT * FROM", f'"{SECRET}"']),
    ]
    for declared in DECLARED:
        for value in values:
            for touch in touched(declared, value=value):
                shown = f"{touch.system} {touch.name} {touch!r}".lower()
                assert SECRET.lower() not in shown
                assert "?" not in shown


@given(st.lists(st.sampled_from(["a", "..", ".", "", "b%2e"]), max_size=8))
def test_normal_paths_stay_as_they_are(parts: list[str]) -> None:
    """A normal name is normal again."""
    for declared, start in ((file_touches("value", "read"), "/"), (http_touches("value"), "https://h.example/")):
        first = one(declared, value=start + "/".join(parts))[2]
        again = one(declared, value=start.rstrip("/") + str(first))[2]
        assert first == again


def test_a_failing_function_is_unknown() -> None:
    """What raises, or returns something else, says that nobody knows."""

    def broken(arguments: object) -> Touch:
        raise RuntimeError(str(arguments))

    for function in (broken, lambda _: 7, lambda _: ["x"], lambda _: None):
        (touch,) = touches_of_call((), (function,), {})  # type: ignore[arg-type]
        assert (touch.system, touch.name, touch.access) == (UNKNOWN, UNKNOWN, "execute")
    assert touches_of_call((Touch("file", "x", "read"),), (lambda _: [],), {}) == (Touch("file", "x", "read"),)
    many = touches_of_call((), (lambda _: [Touch("file", str(number), "read") for number in range(1_000)],), {})
    assert (len(many), many[-1].name) == (64, UNKNOWN)


def test_the_filled_name_is_a_bounded_text() -> None:
    """It is a text of at most 8,192 characters, and not shown."""
    assert "/srv/a" not in repr(Touch("file", "{path}", "read", filled="/srv/a"))
    with pytest.raises(ValueError, match="filled"):
        Touch("file", "{path}", "read", filled="x" * 8_193)
    with pytest.raises(TypeError, match="filled"):
        Touch("file", "{path}", "read", filled=7)  # type: ignore[arg-type]


# SQL


@pytest.fixture(name="sql", scope="module")
def sql_() -> Any:
    """Return the function for tables of statements, if its extra is installed."""
    pytest.importorskip("sqlglot", reason="the extra 'sql' is not installed")
    from agent_identity.policy import sql_touches

    return sql_touches


READ, WRITE, DELETE, ALL = "read", "write", "delete", (UNKNOWN, "execute")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("/* x */ SELECT * FROM Shop.Invoices -- from secrets\n WHERE a = 'x from y'", [("shop.invoices", READ)]),
        ("WITH users AS (SELECT * FROM users) SELECT * FROM users", [("users", READ)]),
        ("WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a, b", [("b", READ)]),
        ("WITH a AS (SELECT 1) SELECT * FROM s.a", [("s.a", READ)]),
        ("WITH RECURSIVE a AS (SELECT 1 UNION SELECT * FROM a) SELECT * FROM a", []),
        ("WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d", [("t", DELETE)]),
        ("SELECT 1; DROP TABLE a, b; -- x", [("a", DELETE), ("b", DELETE)]),
        ("INSERT INTO t (a) SELECT * FROM u ON CONFLICT DO NOTHING", [("t", WRITE), ("u", READ)]),
        ("UPDATE t SET a = 1 FROM u WHERE t.a = u.a", [("t", WRITE), ("u", READ)]),
        ("DELETE FROM t USING u WHERE t.a = u.a", [("t", DELETE), ("u", READ)]),
        ("TRUNCATE a, b", [("a", DELETE), ("b", DELETE)]),
        ("SELECT * INTO n FROM t", [("n", WRITE), ("t", READ)]),
        ("CREATE TABLE x AS SELECT * FROM y", [("x", WRITE), ("y", READ)]),
        ("CREATE TABLE x (a int REFERENCES u (b))", [("x", WRITE), ("u", READ)]),
        ("CREATE OR REPLACE VIEW v AS SELECT * FROM t", [("v", WRITE), ("v", DELETE), ("t", READ)]),
        ("ALTER TABLE t RENAME TO u", [("t", WRITE), ("u", WRITE)]),
        ("ALTER TABLE t DROP COLUMN c", [("t", WRITE)]),
        (
            "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (1)",
            [("t", WRITE), ("t", DELETE), ("s", READ)],
        ),
        ("SELECT (SELECT max(x) FROM v) FROM t WHERE a = %s", [("t", READ), ("v", READ)]),
        ("BEGIN; SELECT 1; COMMIT", []),
        ("SELECT my_function(a) FROM t", [("t", READ), ALL]),
        ("SELECT pg_read_file('/etc/passwd')", [ALL]),
        *(
            (query, [ALL])
            for query in ("COPY t FROM 'x'", "CALL f(1)", "DO $$ begin delete from t; end $$", "nonsense (")
        ),
        *(
            (query, [ALL])
            for query in ("EXPLAIN SELECT 1", "GRANT ALL ON t TO bob", "DROP DATABASE x", "SET ROLE admin")
        ),
        ("SELECT * FROM generate_series(1, 2)", [ALL]),
        (";".join(["SELECT 1"] * 100), [ALL]),
        ("x" * 20_000, [ALL]),
        *(
            (query, [ALL])
            for query in ("(" * 3_000, "SELECT " + "not " * 3_000, "SELECT " + "array[" * 30 + "1" + "]" * 30)
        ),
    ],
)
def test_tables_have_their_access(sql: Any, query: str, expected: list[tuple[str, str]]) -> None:
    """Each table with what is done to it; what is no known statement of tables is unknown."""
    declared = sql("query", "postgres://db:5432", dialect="postgres")
    found = touched(declared, query=query)
    assert [(touch.name, touch.access) for touch in found] == expected
    assert {touch.system for touch in found} <= {"postgres://db:5432"}


@pytest.mark.parametrize(
    ("dialect", "query", "expected"),
    [
        ("mysql", "/*!50000 DROP TABLE x */ SELECT 1", [ALL]),
        ("mysql", "SELECT 5--1 FROM t", [ALL]),
        ("mysql", "SELECT 1 -- ok\n FROM t", [("t", READ)]),
        ("mysql", "DELETE a FROM users a", [("users", DELETE), ALL]),
        ("mysql", "UPDATE a JOIN b ON 1 = 1 SET b.x = 1", [("a", WRITE), ("b", WRITE)]),
        ("tsql", "UPDATE a SET x = 1 FROM users a", [("users", READ), ALL]),
        ("duckdb", "SELECT * FROM 'x.parquet'", [("{query}", READ)]),
        ("duckdb", "SELECT * FROM read_csv('x')", [ALL]),
        ("snowflake", "INSERT OVERWRITE TABLE t SELECT * FROM u", [("T", WRITE), ("T", DELETE), ("U", READ)]),
    ],
)
def test_dialects_differ(sql: Any, dialect: str, query: str, expected: list[tuple[str, str]]) -> None:
    """Comments that run, aliases as targets, files as tables, and the case of names."""
    found = touched(sql("query", "x://db", dialect=dialect), query=query)
    assert [(touch.name, touch.access) for touch in found] == expected


def test_labels_by_table(sql: Any) -> None:
    """A table has its labels, others those of the star; names that are no identifiers are digests."""
    declared = sql("q", "sqlite://x", dialect="sqlite", data={"customers": ["personal"], "*": ["internal"]})
    found = touched(declared, q=" ".join(["SELECT * FROM customers,", f'"odd name", "{SECRET}", orders, "unknown"']))
    named = {touch.filled or touch.name: (touch.name, touch.data) for touch in found}
    assert named["customers"] == ("customers", ("personal",))
    assert named["orders"] == ("orders", ("internal",))
    assert {named[name][0] for name in ("odd name", SECRET.lower(), "unknown")} == {"{q}"}


def test_many_tables_end_in_unknown(sql: Any) -> None:
    """At most 64 resources, the last of them unknown."""
    query = " ".join(["SELECT 1 FROM", ", ".join(f"t{number}" for number in range(100))])
    found = touched(sql("q", "x://db", dialect="postgres"), q=query)
    assert (len(found), found[-1].name) == (63, UNKNOWN)


def test_no_statement_is_logged(sql: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What the library cannot read stays out of its messages; those of others go on."""
    with caplog.at_level(logging.DEBUG):
        touched(sql("q", "x://db", dialect="postgres"), q=f"CALL pay('{SECRET}')")
        assert caplog.text == ""
        logging.getLogger("sqlglot").warning("of others")
    assert "of others" in caplog.text


def test_wrong_options_of_sql_are_refused(sql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown dialect, bad labels, and the missing extra are errors at the declaration."""
    with pytest.raises(ConfigurationError, match="dialect"):
        sql("q", "x://db", dialect="klingon")
    with pytest.raises(TypeError, match="data"):
        sql("q", "x://db", dialect="postgres", data={"t": "personal"})
    with pytest.raises(ValueError, match="system"):
        sql("q", "x://u:p@db", dialect="postgres")
    monkeypatch.setitem(sys.modules, "agent_identity._policy.declarations._sql_statements", None)
    with pytest.raises(ConfigurationError, match="extra sql"):
        sql("q", "x://db", dialect="postgres")


def test_deep_statements_are_given_up_early(sql: Any) -> None:
    """Nested types, which the parser tries again and again, cost bounded work."""
    declared = sql("q", "x://db", dialect="postgres")
    started = time.process_time()
    for opening, closing in (("int[", "]"), ("date(", ")")):
        for depth in (9, 40):
            piece = opening * depth + "1" + closing * depth
            touched(declared, q="SELECT " + ", ".join([piece] * (16_000 // (len(piece) + 2))))
    assert time.process_time() - started < 60
