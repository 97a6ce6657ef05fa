"""Hostile arguments against the constraints of a grant (abuse cases AC-49 to AC-56)."""

import math
import time
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Scope
from agent_identity._constraints.literals import Constraint
from agent_identity.constraints import (
    Contains,
    EmailDomain,
    Exact,
    NotOneOf,
    OneOf,
    PathWithin,
    Prefix,
    Range,
    Subset,
    UrlWithin,
    Wildcard,
)
from agent_identity.errors import OutOfScope


class Money(int):
    """A subclass of int that lies about being small."""

    def __le__(self, other: object) -> bool:
        return True

    def __lt__(self, other: object) -> bool:
        return True


class Everything:
    """An object that equals everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("EUR")


class Path2(str):
    """A subclass of str that says it begins with anything."""

    __slots__ = ()

    def startswith(self, *_: object) -> bool:  # type: ignore[override]
        """Say yes."""
        return True


KINDS: list[Constraint] = [
    Exact("EUR"),
    Exact(1),
    OneOf("EUR", 1, 5),
    NotOneOf("USD", 2),
    Range(0, 100),
    Range(0, 100, min_inclusive=False, max_inclusive=False),
    Range(max=10),
    Range(min=0),
    Contains(1),
    Subset(1, "a"),
    Wildcard(),
    Prefix("E"),
    PathWithin("/data"),
    UrlWithin("https://a.example"),
    EmailDomain("a.example"),
]
DRESSED = [
    Money(1),
    Everything(),
    Path2("/etc/passwd"),
    Decimal(1),
    1 + 0j,
    b"EUR",
    bytearray(b"1"),
    {1},
    frozenset({"a"}),
    range(1, 2),
    (value for value in (1,)),
    object(),
    int,
]


@pytest.mark.parametrize("constraint", KINDS)
def test_ac_49_type_dressing_satisfies_no_constraint(constraint: Constraint) -> None:
    """Only the exact types of JSON satisfy a constraint; subclasses and lookalikes never do."""
    for value in DRESSED:
        assert not constraint.permits(value)
        assert not constraint.permits([value])
        assert not constraint.permits({"a": value})


def test_ac_49_types_are_not_converted() -> None:
    """Texts, booleans, lists and objects around a number are not that number."""
    for value in ("50", "1000", True, False, [50], {"value": 50}, None, ""):
        assert not Range(0, 100).permits(value)
    for value in ("1", True, [1], {"value": 1}):
        assert not Exact(1).permits(value)
        assert not OneOf(1).permits(value)
        assert not Subset(1).permits([value])
        assert not Contains(1).permits([value])


@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf, float("1e999"), 10**400, -(10**400)])
@pytest.mark.parametrize("constraint", KINDS)
def test_ac_50_numbers_beyond_every_double_satisfy_nothing(constraint: Constraint, value: float) -> None:
    """NaN, infinities and what overflows a double is refused by every kind, in both directions."""
    assert not constraint.permits(value)
    assert not constraint.permits([1, value])
    assert not constraint.permits({"a": [value]})


def test_ac_50_large_numbers_and_negative_zero_compare_exactly() -> None:
    """No rounding to doubles decides, and negative zero is zero."""
    limit = Range(max=2**53)
    assert limit.permits(2**53)
    assert not limit.permits(2**53 + 1)
    assert not limit.permits(10**300)
    assert not Range(min=0, min_inclusive=False).permits(-0.0)
    assert Exact(0).permits(-0.0)


TRAVERSALS = [
    "/data/../etc/passwd",
    "../etc/passwd",
    "a/../../etc/passwd",
    "/data/..",
    "..",
    "/etc/passwd",
    "/database/x",
    "/data/./../etc",
    "//etc/passwd",
    "//data/x",
    "/data/x\0.txt",
    "/data/..\\..\\etc",
    "\\\\host\\share",
    "C:\\Windows",
    "C:/Windows",
    "file:///data/x",
    "~/x",
    "~root/x",
    "/data/x\n",
    "/data/\x1b[2J",
    " /etc/passwd",
    "/data/x ",
    "/data/.. /etc",
    "/data/ ../etc",
    "/data/..;/etc",
    "/data/.../x",
    "....//....//etc/passwd",
    "",
    "/data/" + "a" * 5000,
]


@pytest.mark.parametrize("path", TRAVERSALS, ids=ascii)
def test_ac_51_path_traversal_is_refused(path: str) -> None:
    """No spelling leads out of the root, and none that a reader may take differently is accepted."""
    assert not PathWithin("/data").permits(path)


@pytest.mark.parametrize(
    "path", ["/data", "/data/", "/data/a.txt", "/data//a", "/data/./a", "a/b.c", ".", "ä/日本.txt"]
)
def test_ac_51_plain_paths_inside_the_root_pass(path: str) -> None:
    """The rules leave ordinary paths alone."""
    assert PathWithin("/data").permits(path)
    assert PathWithin("/").permits(path)


@given(names=st.lists(st.sampled_from(["..", ".", "", "a", "data", "etc", "%2e%2e", "\uff0e\uff0e", "\\"]), max_size=7))
def test_ac_51_whatever_passes_resolves_inside_the_root(names: list[str]) -> None:
    """The file system's own reading of a permitted path is inside the root."""
    path = "/".join(names)
    if PathWithin("/data").permits(path):
        resolved = Path(*([] if path.startswith("/") else ["/data"]), path)
        assert ".." not in resolved.parts
        assert resolved.is_relative_to("/data")


ENCODED = [
    "/data/%2e%2e/etc",
    "/data/%2E%2E/etc",
    "/data/%252e%252e/etc",
    "/data/..%2fetc",
    "/data/%2fetc",
    "/data/%5c..",
    "/data/%00",
    "/data/%c0%ae%c0%ae/etc",
    "/data/%u002e%u002e/etc",
    "/data/\uff0e\uff0e/etc",
    "/data/\u2024\u2024/etc",
    "/data/\u2025/etc",
    "/data/\u2026/etc",
    "/data/\ufe52\ufe52/etc",
    "/data\uff0fetc",
    "/data/a\u2044..",
    "/data/a\u2215b",
    "/data/a\uff3cb",
    "/data/a\u29f8b",
    "/data/\u2100",
    "/data/\uff05\uff12e",
    "/data/a\u202eb",
    "/data/a\u200bb",
    "/data/a\u2028b",
    "/data/a\x7fb",
    "/data/a\x85b",
    "/data/\ud800",
]


@pytest.mark.parametrize("path", ENCODED, ids=ascii)
def test_ac_52_encoded_traversal_is_refused(path: str) -> None:
    """Percent-encoding, lookalikes of stops and slashes, and invisible characters are refused."""
    assert not PathWithin("/data").permits(path)
    assert not PathWithin("/").permits(path)


def test_ac_53_symbolic_links_that_exist_are_followed_on_request(tmp_path: Path) -> None:
    """With follow_links a link out of the root is refused; without, only the text is judged, as documented."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "real").mkdir(parents=True)
    outside.mkdir()
    (root / "link").symlink_to(outside)
    (root / "loop").symlink_to(root / "loop")
    (root / "inner").symlink_to(root / "real")
    followed = PathWithin(str(root), follow_links=True)
    assert followed.permits(f"{root}/real/x")
    assert followed.permits("inner/x")
    assert not followed.permits(f"{root}/link/x")
    assert not followed.permits("link")
    assert not followed.permits(f"{root}/../outside")
    assert PathWithin(str(root)).permits(f"{root}/link/x")
    assert "race" in str(PathWithin.__doc__)


URLS = [
    "http://api.good.com\\@evil.com/",
    "https://api.good.com\\@evil.com/v1",
    "https://user@api.good.com/v1",
    "https://api.good.com@evil.com/v1",
    "https://api.good.com:443@evil.com/v1",
    "https://api.good.com.evil.com/v1",
    "https://api.good.com./v1",
    "https://api\u3002good.com/v1",
    "https://\u0430pi.good.com/v1",
    "https://api.good.com%2eevil.com/v1",
    "https://api.good.com:0/v1",
    "https://api.good.com:99999/v1",
    "https://api.good.com:8443/v1",
    "https://api.good.com:/v1",
    "https://api.good.com#@evil.com/v1",
    "https://evil.com#api.good.com/v1",
    "https://api.good.com?@evil.com/v1",
    "https:/api.good.com/v1",
    "https:api.good.com/v1",
    "//api.good.com/v1",
    "///api.good.com/v1",
    "https:///api.good.com/v1",
    "http://api.good.com/v1",
    "ftp://api.good.com/v1",
    "javascript://api.good.com/v1",
    " https://api.good.com/v1",
    "https://api.good.com/v1 ",
    "https://api.good.com/v1\n",
    "https://api.good.com/\tv1",
    "ht\ntps://api.good.com/v1",
    "https://api.good.com/v1/../admin",
    "https://api.good.com/v1/..",
    "https://api.good.com/v1/./../admin",
    "https://api.good.com/v1/%2e%2e/admin",
    "https://api.good.com/v1/.%2e/admin",
    "https://api.good.com/v1/%252e%252e/admin",
    "https://api.good.com/v1/..%2fadmin",
    "https://api.good.com/v1/..;/admin",
    "https://api.good.com/v1/.;/x",
    "https://api.good.com/v1\\..\\admin",
    "https://api.good.com/v1%00",
    "https://api.good.com/v1x",
    "https://api.good.com/V1",
    "https://api.good.com",
    "https://api.good.com/",
    "https://[::1]/v1",
    "https://api.good.com/v1/%",
    "https://api.good.com/v1/%c0%ae",
    "https://api.good.com/v1?a=%zz",
    "https://api.good.com/v1/" + "a" * 5000,
    "",
]


@pytest.mark.parametrize("url", URLS, ids=ascii)
def test_ac_54_url_tricks_are_refused(url: str) -> None:
    """No spelling that clients read differently, and none that leads elsewhere, is accepted."""
    assert not UrlWithin("https://api.good.com/v1").permits(url)


@pytest.mark.parametrize(
    "host", ["0x7f.1", "2130706433", "0177.0.0.1", "127.1", "127.0.0.01", "0x7f000001", "256.1.1.1"]
)
def test_ac_54_addresses_have_one_spelling(host: str) -> None:
    """An IPv4 address is read in its dotted form only, in prefixes as in values."""
    assert not UrlWithin("http://127.0.0.1").permits(f"http://{host}/")
    with pytest.raises(ValueError, match="UrlWithin"):
        UrlWithin(f"http://{host}/")
    assert UrlWithin("http://127.0.0.1").permits("http://127.0.0.1/x")


@pytest.mark.parametrize(
    "url",
    [
        "https://api.good.com/v1",
        "https://api.good.com/v1/",
        "https://api.good.com/v1?q=a%20b&c=/../",
        "https://api.good.com/v1/a%20b#top",
        "HTTPS://API.good.com:443/v1/x",
        "https://api.good.com/v1/a@b:c",
    ],
)
def test_ac_54_plain_urls_inside_the_prefix_pass(url: str) -> None:
    """The rules leave ordinary URLs alone, and the standard library reads them alike."""
    assert UrlWithin("https://api.good.com/v1").permits(url)
    read = urlsplit(url)
    assert (read.hostname, read.port or 443, read.path[:3]) == ("api.good.com", 443, "/v1")


@given(
    url=st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["https://", "http://", "https:", "//", "https:\\\\", "HTTPS://"]),
        st.sampled_from(["", "u@", "u:p@", "evil.com\\@", "evil.com#@", "evil.com?"]),
        st.sampled_from(["api.good.com", "API.GOOD.COM", "api.good.com.", "api.good.com:443", "evil.com"]),
        st.sampled_from(["", "/", "/v1", "/v1/..", "/v1/%2e%2e/", "/v1/x?y#z", "@evil.com/v1", "\\v1"]),
    )
)
def test_ac_54_whatever_passes_is_read_alike_by_the_standard_library(url: str) -> None:
    """A permitted URL has the granted origin for urllib as well."""
    if UrlWithin("https://api.good.com").permits(url):
        read = urlsplit(url)
        assert (read.scheme, read.hostname, read.port or 443) == ("https", "api.good.com", 443)
        assert read.username is None
        assert ".." not in read.path


@pytest.mark.parametrize(
    "address",
    [
        "x@evil.com",
        "x@sub.good.com",
        "x@good.com.evil.com",
        "x@good.com@evil.com",
        "x@evil.com@good.com",
        "evil.com!x@good.com",
        "x%evil.com@good.com",
        '"x@evil.com"@good.com',
        "X <x@good.com>",
        "x@good.com,y@evil.com",
        "x@good.com\n",
        "x@good.com ",
        "x@good.com.",
        "x@g\u043e\u043ed.com",
        ".x@good.com",
        "x..y@good.com",
        "@good.com",
        "good.com",
        "x(comment)@good.com",
        "x@[127.0.0.1]",
        "y" * 65 + "@good.com",
        "",
    ],
    ids=ascii,
)
def test_ac_54_address_tricks_are_refused(address: str) -> None:
    """Only one plain address in exactly the domain is accepted."""
    assert EmailDomain("good.com").permits("a.b+c@Good.com")
    assert not EmailDomain("good.com").permits(address)


LOOKALIKES = [
    "\u0440\u0430y",
    "pay\u200b",
    "pay ",
    " pay",
    "PAY",
    "Pay",
    "pay\n",
    "p\u00e4y",
    "pay\0",
    "\uff50\uff41\uff59",
]


@pytest.mark.parametrize("text", LOOKALIKES, ids=ascii)
def test_ac_55_lookalikes_are_other_tools_and_values(text: str) -> None:
    """Homoglyphs, invisible characters and stray spaces never match a tool, an argument or a value."""
    scope = Scope("pay", pay="pay")
    scope.check("pay", {"pay": "pay"}, ["pay"])
    for call in [(text, {"pay": "pay"}), ("pay", {text: "pay"}), ("pay", {"pay": text})]:
        with pytest.raises(OutOfScope):
            scope.check(*call, call[1].keys())
    assert not OneOf("pay").permits(text)


def test_ac_56_case_and_normal_forms_are_compared_as_they_are() -> None:
    """No folding of case, no Unicode normalisation."""
    assert not Exact("admin").permits("Admin")
    assert not Exact("caf\u00e9").permits("cafe\u0301")
    assert not OneOf("caf\u00e9").permits("cafe\u0301")
    assert not Prefix("caf\u00e9").permits("cafe\u0301s")
    assert not Subset("stra\u00dfe").permits(["strasse"])
    assert NotOneOf("admin").permits("Admin")


def test_ac_59_no_text_takes_more_than_linear_time() -> None:
    """The patterns of paths, URLs and addresses do not backtrack on hostile text."""
    texts = [
        "https://" + "a-" * 2000,
        "https://" + "a." * 2000 + "!",
        "https://a.example/" + "%20" * 1300 + "\\",
        "a." * 120 + "@" + "a-" * 60 + "!",
        "/data/" + "/." * 2000,
        "/data/" + "\u2024" * 4000,
        "x" * 1_000_000 + "@",
    ]
    started = time.process_time()
    for text in texts:
        assert not UrlWithin("https://a.example").permits(text)
        assert not EmailDomain("a.example").permits(text)
        PathWithin("/data").permits(text)
    assert time.process_time() - started < 1


def test_ac_58_chosen_hash_collisions_stay_cheap() -> None:
    """Thousands of integers with one hash do not turn a check into quadratic work."""
    colliding = [(2**61 - 1) * number + 7 for number in range(1, 9000)]
    started = time.process_time()
    assert not Contains(7, 8).permits(colliding)
    assert not Subset(7).permits(colliding)
    assert not Exact([7]).permits(colliding)
    assert time.process_time() - started < 1
