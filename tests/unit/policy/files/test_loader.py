"""Policy files: three formats, one meaning, and a place for every mistake."""

import json
import math
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Effect, Human, Request, Rule, RuleSet
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._policy.decision.places import Document, Malformed, Problem
from agent_identity._policy.files._yaml_reader import read_yaml
from agent_identity._policy.files.loader import read_json, read_toml
from agent_identity.constraints import Range
from agent_identity.errors import ConfigurationError, PolicyFormatError
from agent_identity.policy import Tool

YAML = """\
version: "3"
name: invoices
default: block            # or allow
rules:
  - id: payments-limit
    effect: block
    tools: pay_*
    reason: payments over 100 need a human
    when:
      args.amount: {range: {min: 100, min_inclusive: false}}
      principal.kind: human
  - effect: route
    to: approval-desk
    tools: [pay_invoice, refund]
    when: {any: [{args.amount: {range: {min: 5e1}}}, {not: {principal.provenance: verified}}]}
  - effect: allow
"""

JSON = """\
{
  "version": "3",
  "name": "invoices",
  "default": "block",
  "rules": [
    {
      "id": "payments-limit",
      "effect": "block",
      "tools": "pay_*",
      "reason": "payments over 100 need a human",
      "when": {
        "args.amount": {"range": {"min": 100, "min_inclusive": false}},
        "principal.kind": "human"
      }
    },
    {
\t"effect": "route", "to": "approval-desk", "tools": ["pay_invoice", "refund"],
      "when": {"any": [{"args.amount": {"range": {"min": 5e1}}}, {"not": {"principal.provenance": "verified"}}]}
    },
    {"effect": "allow"}
  ]
}
"""

TOML = """\
version = "3"
name = "invoices"
default = "block"  # or allow

[[rules]]
id = "payments-limit"
effect = "block"
tools = "pay_*"
reason = "payments over 100 need a human"

[rules.when]
"args.amount".range = {min = 100, min_inclusive = false}
'principal.kind' = "human"

[[rules]]
effect = "route"
to = "approval-desk"
tools = ["pay_invoice", "refund"]
when = {any = [{"args.amount" = {range = {min = 5e1}}}, {not = {"principal.provenance" = "verified"}}]}

[[rules]]
effect = "allow"
"""

FORMATS = [("p.yaml", YAML), ("p.yml", YAML), ("p.json", JSON), ("p.toml", TOML)]


def write(folder: Path, name: str, text: str) -> Path:
    """Write a policy file and return its path."""
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def complaint(folder: Path, name: str, text: str) -> str:
    """Return the message about a file, with its place and without the folder."""
    file = write(folder, name, text)
    with pytest.raises(PolicyFormatError) as caught:
        RuleSet.load(file, tools=None)
    error = caught.value
    message = str(error)
    assert message.startswith(f"{file}:{error.line}:{error.column}: ")
    assert "\n" not in message
    assert error.line is not None
    assert error.column is not None
    assert 1 <= error.line <= len(text.split("\n"))
    assert 1 <= error.column <= len(text.split("\n")[error.line - 1]) + 1
    return message.removeprefix(f"{folder}/")


@pytest.mark.parametrize(("name", "text"), FORMATS)
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
def test_every_format_means_the_same(tmp_path: Path, name: str, text: str, mark: str) -> None:
    """YAML, JSON and TOML spell the same rules, which decide as the ones written in Python."""
    policy = RuleSet.load(str(write(tmp_path, name, mark + text)))
    expected = RuleSet(
        Rule(
            Effect.BLOCK,
            id="payments-limit",
            tools="pay_*",
            reason="payments over 100 need a human",
            when={"args.amount": Range(min=100, min_inclusive=False), "principal.kind": "human"},
        ),
        Rule(
            Effect.ROUTE,
            to="approval-desk",
            tools=["pay_invoice", "refund"],
            when={"any": [{"args.amount": Range(min=50)}, {"not": {"principal.provenance": "verified"}}]},
        ),
        Rule(Effect.ALLOW),
    )
    assert (policy.rules, policy.name, policy.version, policy.default) == (
        expected.rules,
        "invoices",
        "3",
        Effect.BLOCK,
    )
    request = Request(Tool("pay_invoice"), {"amount": 101}, principal=Human("alice@example.com"))
    assert policy.decide(request).rule == "payments-limit"
    assert policy.decide(request._replace(arguments={"amount": 60})).route == "approval-desk"


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    """The digest of a loaded policy is the SHA-256 of the file, which ``sha256sum`` prints in hexadecimal."""
    policy = RuleSet.load(write(tmp_path, "p.json", '{"rules":[{"effect":"block"}]}'))
    printed = "49606b357e2a3279947011109398fb98379b3b0dcc63134ecc5597243b3cffe5"
    assert policy.digest == b64url_encode(bytes.fromhex(printed))
    assert policy.decide(Request(Tool("x"), {})).digest == policy.digest


def test_what_a_file_leaves_out_has_the_defaults_of_python(tmp_path: Path) -> None:
    """Only the rules are needed; an empty list of rules only where everything is blocked."""
    policy = RuleSet.load(write(tmp_path, "p.yaml", "rules: [{effect: warn}]"))
    assert (policy.name, policy.version, policy.default) == ("policy", "1", Effect.ALLOW)
    assert policy.rules == (Rule(Effect.WARN),)
    assert RuleSet.load(write(tmp_path, "q.yaml", "default: block\nrules: []")).rules == ()


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("effect: route", "efect: route", "12:5", "unknown key 'efect' in a rule; use one of effect, id, obligations"),
        ("rules:", "rulez:", "4:1", "unknown key 'rulez' in the policy; use one of default, name, rules, tools"),
        ("name: invoices", "name: a b", "2:7", "a name is malformed"),
        ('version: "3"', "version: 3", "1:10", 'put it in quotes, such as "3"'),
        ('version: "3"', 'version: ""', "1:10", "a name is malformed"),
        ("default: block", "default: warn", "3:10", "unknown effect 'warn'; use one of allow, block"),
        ("effect: block", "effect: blok", "6:13", "unknown effect 'blok'; use one of allow, block, route, warn"),
        ("effect: block", "effect: [block]", "6:13", "the effect is no string"),
        ("tools: pay_*", "tools: pay all", "7:12", "a tool name is malformed"),
        ("tools: pay_*", "tools: []", "7:12", "tools is no name"),
        ("refund]", "5]", "14:26", "a tool name is malformed"),
        ("id: payments-limit", "id: [a]", "5:9", "a name is malformed"),
        ("reason: payments", "reason: |\n      payments", "8:13", "the reason is malformed"),
        ("range: {min: 100,", "rnage: {min: 100,", "10:21", "unknown constraint 'rnage'"),
        ("{min: 100,", "{min: hundred,", "10:28", "the bound of the Range is"),
        ("{min: 100,", "{mim: 100,", "10:29", "unknown key 'mim' in a range"),
        ("min_inclusive: false", "min_inclusive: no", "10:54", "'no' is a boolean for some readers"),
        ("principal.kind: human", "principle.kind: human", "11:7", "unknown namespace 'principle'"),
        ("principal.kind: human", "principal.kind: humann", "11:23", "always one of human, service"),
        ("{not: {", "{nto: {", "15:55", "unknown namespace 'nto'"),
        ("principal.provenance", "principal.provenanse", "15:61", "unknown attribute 'principal.provenanse'"),
        ("    to: approval-desk\n", "", "12:5", "'to' is missing"),
        ("effect: allow", "effect: allow\n    to: desk", "16:5", "the rule has 'to'"),
        ("to: approval-desk", "to: null", "13:9", "the rule routes to no target"),
        ("  - effect: allow", "  - tools: x", "16:5", "the key 'effect' is missing in the rule"),
        ("  - effect: allow", "  - allow", "16:5", "a rule is no mapping"),
        ("  - effect: allow", "  - effect: allow\n    id: payments-limit", "17:9", "the id is that of rule 1"),
        ("id: payments-limit", "id: rule-2", "12:5", "the id is that of rule 1"),
        ("default: block", "default: block\ndefault: allow", "4:1", "duplicate key 'default'"),
        ("principal.kind: human", "principal.kind: human\n      principal.kind: service", "12:7", "duplicate key"),
        ("principal.kind: human", "principal.kind: &k human", "11:23", "anchors are not supported"),
        ("principal.kind: human", "principal.kind: *k", "11:23", "aliases are not supported"),
        ("principal.kind: human", "*k : human", "11:7", "aliases are not supported"),
        ("principal.kind: human", "principal.kind: !!str human", "11:23", "tags are not supported"),
        ("principal.kind: human", "principal.kind: ! human", "11:23", "tags are not supported"),
        ("principal.kind: human", "<<: {principal.kind: human}", "11:7", "unknown namespace '<<'"),
        ("principal.kind: human", "? [a]\n      : b", "11:9", "a key is no string"),
        ("principal.kind: human", "args.x: 010", "11:15", "readers read '010' differently"),
        ("principal.kind: human", "args.x: 1e999", "11:15", "readers read '1e999' differently"),
        ("principal.kind: human", "args.x: [1]", "11:15", "write one_of"),
        ("principal.kind: human", "principal.kind human", "12:3", "not YAML: could not find expected ':'"),
        ("  - effect: allow", "\t- effect: allow", "16:1", "not YAML: found character"),
        ("reason: payments", 'reason: "\\UFFFFFFFF', "8:5", "not YAML: a number is too large"),
        ("reason: payments", "reason: \x07payments", "8:13", "a character is not printable"),
        ("  - effect: allow\n", "  - effect: allow\n---\nrules: []\n", "17:1", "a second document"),
        ("rules:", "rules: []\nx:", "5:1", "unknown key 'x'"),
    ],
)
def test_every_mistake_in_yaml_has_its_place(tmp_path: Path, old: str, new: str, place: str, message: str) -> None:
    """The message about a mistake begins with file, line and column of the very key or value."""
    assert YAML.count(old) == 1
    found = complaint(tmp_path, "policy.yaml", YAML.replace(old, new))
    assert found.startswith(f"policy.yaml:{place}: ")
    assert message in found


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", "1:1", "file is empty"),
        ("# nothing\n", "2:1", "file is empty"),
        ("---\n", "1:1", "the policy is no mapping; write one with the keys default, name, rules, tools, version"),
        ("[]", "1:1", "the policy is no mapping"),
        ("name: x", "1:1", "the key 'rules' is missing"),
        ("rules: []", "1:8", "rules is empty"),
        ("rules:", "1:7", "rules is no list"),
        ("rules: {effect: block}", "1:8", "rules is no list"),
        ("rules: " + "[" * 40, "1:40", "values are nested"),
        ("rules: [{effect: block", "1:23", "not YAML"),
        ("%YAML 2.0\n---\nrules: []", "1:1", "not YAML"),
    ],
)
def test_a_yaml_file_without_a_policy_is_refused(tmp_path: Path, text: str, place: str, message: str) -> None:
    """An empty, truncated or different document is no policy."""
    found = complaint(tmp_path, "policy.yaml", text)
    assert found.startswith(f"policy.yaml:{place}: ")
    assert message in found


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ('"effect": "route"', '"efect": "route"', "17:2", "unknown key 'efect' in a rule"),
        ('"effect": "block"', '"effect": "blok"', "8:17", "unknown effect 'blok'"),
        ('"min": 100,', '"mim": 100,', "12:35", "unknown key 'mim' in a range"),
        ('"min": 100,', '"min": NaN,', "12:42", "NaN is not a finite number"),
        ('"min": 100,', '"min": 1e999,', "12:42", "beyond every double"),
        ('"min": 100,', f'"min": {"1" * 5000},', "12:42", "too many digits"),
        ('"default": "block",', '"default": "block", "default": "allow",', "4:23", "duplicate key 'default'"),
        ('"default": "block",', '"default": block,', "4:14", "no JSON value here (Expecting value)"),
        ('"default": "block",', '"default" "block",', "4:13", "no : here"),
        ('"default": "block",', '"default": "block"', "5:3", "no , or } here"),
        ('"default": "block",', 'default: "block",', "4:3", "no key in double quotes"),
        ('"refund"]', '"refund",]', "17:78", "no JSON value here"),
        ('"refund"]', '"refund"}', "17:77", "no , or ] here"),
        ('{"effect": "allow"}', '{"effect": "allow",}', "20:24", "no key in double quotes"),
        ('{"effect": "allow"}', "{}", "20:5", "the key 'effect' is missing"),
        ('{"effect": "allow"}', "[]", "20:5", "a rule is no mapping"),
        ('"effect": "allow"}\n  ]\n}\n', '"effect": "allow"}\n  ]\n}\n x', "23:2", "text follows the policy"),
        ('"effect": "allow"}\n  ]\n}\n', '"effect": "allow"}\n  ]\n', "22:1", "the file ends early"),
        ("payments over", "payments\x07over", "10:26", "no JSON value here (Invalid control character at)"),
    ],
)
def test_every_mistake_in_json_has_its_place(tmp_path: Path, old: str, new: str, place: str, message: str) -> None:
    """The message about a mistake begins with file, line and column of the very key or value."""
    assert JSON.count(old) == 1
    found = complaint(tmp_path, "policy.json", JSON.replace(old, new))
    assert found.startswith(f"policy.json:{place}: ")
    assert message in found


def test_json_is_bounded_in_depth(tmp_path: Path) -> None:
    """A JSON text nested too deeply is refused where it becomes too deep."""
    assert "policy.json:1:34: values are nested more than 32" in complaint(tmp_path, "policy.json", "[" * 100_000)


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ('effect = "route"', 'efect = "route"', "16:1", "unknown key 'efect' in a rule"),
        ('effect = "block"', 'effect = "blok"', "7:10", "unknown effect 'blok'"),
        ("'principal.kind' = \"human\"", "'principal.kind' = \"humann\"", "13:20", "always one of human, service"),
        ("'principal.kind' = \"human\"", "'principle.kind' = \"human\"", "13:1", "unknown namespace 'principle'"),
        ("{min = 100,", "{mim = 100,", "12:23", "unknown key 'mim'"),
        ("{min = 100,", "{min = nan,", "12:23", "give a finite one"),
        ("{min = 100,", "{min = 2024-01-01,", "12:23", "the bound of the Range is"),
        ("default = ", "default ", "3:9", "not TOML: Expected '='"),
        ('default = "block"', 'default = "block"\ndefault = "allow"', "4:18", "not TOML: Cannot overwrite"),
        ('[[rules]]\neffect = "allow"\n', "x = [", "21:6", "not TOML: Invalid value (at end of document)"),
        ('[[rules]]\neffect = "allow"\n', "[[rules]]", "21:1", "the key 'effect' is missing"),
        ("min = 5e1", f"min = {'1' * 5000}", "1:1", "too many digits"),
    ],
)
def test_every_mistake_in_toml_has_a_place(tmp_path: Path, old: str, new: str, place: str, message: str) -> None:
    """The message about a mistake begins with file, line and column of the key or value, or what holds it."""
    assert old in TOML
    found = complaint(tmp_path, "policy.toml", TOML.replace(old, new))
    assert found.startswith(f"policy.toml:{place}: ")
    assert message in found


def test_toml_is_bounded_in_depth(tmp_path: Path) -> None:
    """A TOML text nested too deeply for the standard parser is refused."""
    assert "values are nested" in complaint(tmp_path, "policy.toml", "x = " + "[" * 100_000)


def test_toml_tables_inside_tables_have_their_places() -> None:
    """A table belongs to the newest item of the array around it."""
    document = read_toml('[[rules]]\n[[rules]]\n[rules.when."args.x"]\nrange.min = 1\n[[rules.when.any]]\na = 1\n')
    assert document.locate(Problem("", ("rules", 1, "when", "args.x", "range", "min"))) == (4, 13)
    assert document.locate(Problem("", ("rules", 1, "when", "any", 0, "a"), at_key=True)) == (6, 1)
    assert document.locate(Problem("", ("rules", 0, "effect"))) == (1, 1)
    assert document.locate(Problem("", ("elsewhere",))) == (1, 1)


@pytest.mark.parametrize("name", ["p.yaml", "p.json", "p.toml"])
def test_bytes_that_are_no_text_have_a_place(tmp_path: Path, name: str) -> None:
    """A file that is not UTF-8 is refused at the first wrong byte."""
    file = tmp_path / name
    file.write_bytes("ä: 1\nä: ".encode() + b"\xff")
    with pytest.raises(PolicyFormatError, match=r":2:4: the text is not UTF-8") as caught:
        RuleSet.load(file)
    assert (caught.value.line, caught.value.column) == (2, 4)


def test_an_inventory_finds_rules_for_tools_that_are_not_there(tmp_path: Path) -> None:
    """With an inventory a rule for a misspelt tool is a mistake; patterns are left alone."""
    file = write(tmp_path, "p.yaml", YAML)
    assert len(RuleSet.load(file, tools={"pay_invoice", "refund"}).rules) == 3
    with pytest.raises(PolicyFormatError, match=r"p.yaml:14:26: unknown tool 'refund'"):
        RuleSet.load(file, tools=["pay_invoice", "refunds"])
    with pytest.raises(PolicyFormatError, match=r"q.yaml:1:31: unknown tool 'x'"):
        RuleSet.load(write(tmp_path, "q.yaml", "rules: [{effect: warn, tools: x}]"), tools=())


def test_too_many_rules_are_refused(tmp_path: Path) -> None:
    """A policy file may have ten thousand rules."""
    rules = ",".join(['{"effect":"warn"}'] * 10_001)
    assert "use at most 10000" in complaint(tmp_path, "p.json", f'{{"rules":[{rules}]}}')


def test_a_file_that_cannot_be_read_is_a_configuration_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, unreadable, too large and unknown files are errors that say what was expected."""
    with pytest.raises(ConfigurationError, match="no policy file at"):
        RuleSet.load(tmp_path / "missing.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ConfigurationError, match="no policy file at"):
        RuleSet.load(tmp_path / "folder.yaml")
    with pytest.raises(ConfigurationError, match=r"ends in \.json, \.toml, \.yaml, \.yml"):
        RuleSet.load(write(tmp_path, "policy.txt", YAML))
    with pytest.raises(ConfigurationError, match="larger than 1048576 bytes"):
        RuleSet.load(write(tmp_path, "large.json", " " * (1024 * 1024 + 1)))
    file = write(tmp_path, "policy.yaml", YAML)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigurationError, match="Permission denied"):
        RuleSet.load(file)


def test_without_pyyaml_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyYAML a YAML file is an error that names the extra; JSON and TOML load as ever."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.delitem(sys.modules, "agent_identity._policy.files._yaml_reader")
    with pytest.raises(ConfigurationError, match=r"\.\[yaml\]"):
        RuleSet.load(write(tmp_path, "policy.yaml", YAML))
    assert RuleSet.load(write(tmp_path, "policy.json", JSON)).name == "invoices"
    assert RuleSet.load(write(tmp_path, "policy.toml", TOML)).name == "invoices"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts),
    max_leaves=10,
)


@given(value=json_values, indent=st.sampled_from([None, 0, "\t"]), escaped=st.booleans())
def test_json_is_read_as_the_standard_parser_reads_it(value: object, indent: int | str | None, escaped: bool) -> None:
    """Any JSON value comes back as it was, with a place for every key and value."""
    text = json.dumps(value, indent=indent, ensure_ascii=escaped)
    document = read_json(text)
    assert document.value == json.loads(text)
    assert document.values[()] == (1, 1)


@given(text=st.text('{}[]":,0123e.-+ \n\ttrufalsn\\"a', max_size=30))
def test_json_that_the_standard_parser_refuses_is_refused(text: str) -> None:
    """Whatever is not JSON is malformed, and never another kind of error."""
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(Malformed):
            read_json(text)
        return
    try:
        assert read_json(text).value == expected
    except Malformed as malformed:
        assert str(malformed).startswith(("duplicate key", "a number is beyond", "NaN", "Infinity", "-Infinity"))  # noqa: PT017


plain = st.from_regex(r"[-+]?[0-9_.:exobfaEXInNfyTtrue<=~ -]{1,12}", fullmatch=True).map(str.strip).filter(bool)


@given(text=plain)
def test_yaml_scalars_mean_what_every_reader_reads(text: str) -> None:
    """A plain scalar that PyYAML takes for something other than text is read the same or refused."""
    try:
        theirs = yaml.safe_load(text)
        ours = read_yaml(text).value
    except (Malformed, yaml.YAMLError, ValueError):
        return
    if isinstance(theirs, dict | list):
        return  # No scalar: "0:" is a mapping, whose keys are text to us.
    if not isinstance(theirs, str):
        assert ours == theirs
        assert type(ours) is type(theirs)
    else:
        # PyYAML misses floats without a dot or a sign in the exponent, which JSON and YAML 1.2 have.
        assert ours == theirs or (isinstance(ours, float) and ours == float(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-1", -1), ("+1", 1), ("0", 0), ("1.5", 1.5), ("-.5", -0.5), ("1.", 1.0), ("1e3", 1000.0),
        ("1.5E-3", 0.0015), ("~", None), ("null", None), ("True", True), ("FALSE", False), ("tRue", "tRue"),
        ("'yes'", "yes"), ('"010"', "010"), ("yes!", "yes!"), ("1.2.3", "1.2.3"), ("pay_*", "pay_*"),
        (str(10**300), 10**300),
    ],
)  # fmt: skip
def test_yaml_scalars_of_the_core(text: str, value: object) -> None:
    """Numbers, booleans, null and text are read as in YAML 1.2, JSON and TOML."""
    found = read_yaml(text).value
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    ["yes", "No", "ON", "off", "y", "N", "010", "08", "0o7", "0x1F", "0b1", "1_000", "1:30", "190:20:30.15", ".inf",
     "-.INF", ".nan", "2024-01-01", "2024-01-01T10:00:00Z", "<<", "=", "1e400", "9" * 400, "012.5", "._5"],
)  # fmt: skip
def test_yaml_scalars_that_readers_disagree_about_are_refused(text: str) -> None:
    """What one reader takes for a number, a date or a boolean and another one does not must be quoted."""
    with pytest.raises(Malformed, match=r"for some readers|differently"):
        read_yaml(f"- {text}")
    assert read_yaml(f"- '{text}'").value == [text]


@pytest.mark.parametrize(
    ("name", "text"), [("p.yaml", YAML), ("p.json", JSON), ("p.toml", TOML)], ids=["yaml", "json", "toml"]
)
@given(data=st.data())
def test_a_damaged_file_loads_or_has_a_place(
    tmp_path_factory: pytest.TempPathFactory, name: str, text: str, data: st.DataObject
) -> None:
    """Whatever is cut out of a file or put into it, the file loads or the error has a line and a column."""
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    dirt = data.draw(st.text(max_size=3) | st.sampled_from(["*a", "&a ", "!x ", "- ", "{", "]", '"', "\\", "\t", ": "]))
    file = tmp_path_factory.mktemp("policy") / name
    file.write_bytes((text[:start] + dirt + text[end:]).encode("utf-8", "surrogatepass"))
    try:
        RuleSet.load(file)
    except PolicyFormatError as error:
        assert error.line is not None  # noqa: PT017
        assert error.column is not None  # noqa: PT017
        assert str(error).startswith(f"{file}:{error.line}:{error.column}: ")  # noqa: PT017


def test_a_document_without_places_points_to_its_start() -> None:
    """A problem that no place is known for is at the start of the file."""
    assert Document().locate(Problem("x", ("rules",), at_key=True)) == (1, 1)
    assert math.isfinite(tomllib.loads("a = 1")["a"])
