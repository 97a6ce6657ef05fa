"""The provenance of arguments: whole values, words and composed values, with their precedence and bounds."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._flow import provenance as rules
from agent_identity._flow.labels import TRUSTED, UNKNOWN, UNTRUSTED
from agent_identity._flow.provenance import ProvenanceIndex
from agent_identity.inspection import Label

RANKS = list(rules.PROVENANCES)
VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=40)


def index() -> ProvenanceIndex:
    return ProvenanceIndex(b"k" * 32)


def took(found: ProvenanceIndex, *values: object, label: Label, source: str = "r1") -> ProvenanceIndex:
    found.take([(value, label) for value in values], source)
    return found


def provenance(found: ProvenanceIndex, value: object) -> str | None:
    origin = found.origin(value)
    return None if origin is None else origin.provenance


@given(VALUES, st.sampled_from([TRUSTED, UNKNOWN, UNTRUSTED]))
def test_a_repeated_value_has_the_provenance_of_its_input(value: str, label: Label) -> None:
    """Whatever its characters are, an equal whole value is recognized."""
    assert provenance(took(index(), value, label=label), value) == label.integrity


@given(VALUES, VALUES)
def test_what_nobody_gave_is_never_raised(said: str, value: str) -> None:
    """A value of which no part was said by the principal is never the principal's."""
    found = index()
    found.say(said, "r1")
    if rules.normalized(value) not in {rules.normalized(said), *map(rules.normalized, rules.parts_of(said))}:
        words = [word for word in value.split() if word not in said]
        if words:
            assert provenance(found, value) == "unknown"


@given(st.lists(st.tuples(st.sampled_from([TRUSTED, UNKNOWN, UNTRUSTED]), st.booleans()), min_size=1, max_size=6))
def test_only_the_principal_raises_a_value_that_came_before(inputs: list[tuple[Label, bool]]) -> None:
    """The first input decides, unless the principal names the value."""
    found, expected = index(), None
    for label, said in inputs:
        if said:
            found.say("acct-1234", "said")
            expected = "principal"
        else:
            took(found, "acct-1234", label=label)
            expected = expected or label.integrity
        assert provenance(found, "acct-1234") == expected


@pytest.mark.parametrize("space", [*filter(str.isspace, map(chr, range(0x3100))), *",;|"])
def test_words_end_at_every_kind_of_space(space: str) -> None:
    """Each kind of white space, commas, semicolons and bars separate addresses in inputs and in arguments."""
    found = took(index(), f"a@first.example{space}{space}b@other.example", label=TRUSTED)
    assert provenance(found, "b@other.example") == "trusted"
    assert provenance(found, f"b@other.example{space}a@first.example") == "trusted"
    assert provenance(found, f"b@other.example{space}c@third.example") == "unknown"


SOURCE = "Book a table at Restaurant Bellevue near Hotel Continental. Restaurant Excelsior is closed;\nAlbergo Vecchio"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Restaurant Bellevue", "trusted"),
        ("Hotel Continental", "unknown"),  # Of a word of five characters nobody knows anything.
        ("Continental Restaurant", "unknown"),
        ("Restaurant, Continental", "unknown"),
        ("Continental. Restaurant", "trusted"),
        ("Bellevue Continental", "unknown"),
        ("Restaurant Continental", "unknown"),
        ("Excelsior Albergo", "unknown"),
        ("closed Albergo", "unknown"),
        ("Albergo Vecchio", "trusted"),
        ("'Albergo Vecchio'", "trusted"),
        ("Albergo  Vecchio", "trusted"),
    ],
)
def test_words_of_a_value_stand_in_a_row_in_one_input(value: str, expected: str) -> None:
    """A name is recognized only where one input has its words in this order, with nothing but spaces between them."""
    found = took(index(), SOURCE, label=TRUSTED)
    assert provenance(found, value) == expected
    said = index()
    said.say(SOURCE, "r1")
    said_as = {"trusted": "principal", "unknown": "unknown"}[expected]
    assert provenance(said, value) == ("principal" if value == "Hotel Continental" else said_as)


def test_a_row_counts_as_the_first_input_that_has_it() -> None:
    """A name that an untrusted input had first stays unknown, even where its words were known before."""
    found = took(index(), "Albergo in Venezia, and the old Vecchio", label=TRUSTED)
    assert provenance(found, "Albergo Vecchio") == "unknown"
    took(found, "come to Albergo Vecchio", label=UNTRUSTED, source="r2")
    took(found, "they offer Albergo Vecchio", label=TRUSTED, source="r3")
    assert provenance(found, "Albergo Vecchio") == "untrusted"
    found.say("I mean Albergo Vecchio", "r4")
    assert found.origin("Albergo Vecchio") == ("principal", "r4")


def test_a_row_in_the_arguments_of_a_call_is_not_raised_by_its_result() -> None:
    """A trusted tool that repeats a name from loose words in its answer does not vouch for it."""
    found = took(index(), "Albergo and Vecchio", label=TRUSTED)
    found.take([("nothing found for Albergo Vecchio here", TRUSTED)], "r2", ["Albergo Vecchio"])
    assert provenance(found, "Albergo Vecchio") == "unknown"


def test_rows_go_along_with_forks_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An isolated hop knows the rows of its task and hands back its own; beyond the bound no row is known."""
    found = took(index(), "at Albergo Vecchio", label=TRUSTED)
    part = found.forked()
    took(part, "or Taverna Nuovissima", label=TRUSTED)
    assert provenance(part, "Albergo Vecchio") == "trusted"
    assert provenance(found, "Taverna Nuovissima") == "unknown"
    found.absorb(part)
    assert provenance(found, "Taverna Nuovissima") == "trusted"
    monkeypatch.setattr("agent_identity._flow.provenance._MAX_WORDS", 4)
    small = took(index(), "one Albergo of Vecchio city", "at Taverna Nuovissima", label=TRUSTED)
    assert provenance(small, "Taverna Nuovissima") == "unknown"
    small.erase()
    assert provenance(small, "Taverna Nuovissima") == "unknown"


def test_a_text_that_comes_again_adds_nothing() -> None:
    """The first input decides for a text and its parts; the principal who repeats it raises all of them."""
    text = "wire it to acct-1234 or https://shop.example/pay"
    found = took(index(), text, label=UNTRUSTED)
    values = len(found)
    took(found, text, label=TRUSTED, source="r2")
    assert len(found) == values
    assert found.origin("acct-1234") == ("untrusted", "r1")
    found.say(text, "r3")
    for part in (text, "acct-1234", "https://shop.example/pay"):
        assert found.origin(part) == ("principal", "r3")
    took(found, "acct-1234", label=UNTRUSTED)
    assert found.origin("acct-1234") == ("principal", "r3")


def test_the_index_holds_keyed_digests() -> None:
    """An index contains no values, and two tasks have different digests of the same value."""
    one, other = index(), ProvenanceIndex(b"j" * 32)
    for found in (one, other):
        took(found, "acct-1234", 4217, label=TRUSTED)
    assert {type(digest) for digest in one.entries} == {int}
    assert len(one.entries) == 2
    assert one.entries.keys().isdisjoint(other.entries)


def test_a_destination_in_a_request_is_the_principals() -> None:
    """Words of six characters and more are recognized in running text, without the punctuation around them."""
    found = index()
    found.say("Pay Acme's invoice to (billing@Acme.example), please; report to /srv/Reports/.", "r1")
    assert provenance(found, "billing@acme.example") == "principal"
    assert provenance(found, "/srv/Reports/") == "principal"
    assert provenance(found, "/srv/reports/") == "unknown"
    assert provenance(found, " /srv/Reports/") == "unknown"
    assert provenance(found, "'/srv/Reports/'") == "unknown"
    assert provenance(found, "<billing@acme.example>") == "principal"
    assert provenance(found, "Acme") == "unknown"


def test_names_of_several_words_are_recognized_in_a_request() -> None:
    """Up to six words in a row count, short ones too, from one that is not in lower case to another such."""
    found = index()
    found.say("Compare 'Le Marais Boutique' with the Bank of New York, then book it.", "r1")
    took(found, "or rather Hotel de la Paix", label=TRUSTED)
    for name in ("Le Marais Boutique", "Bank of New York", "New York"):
        assert found.origin(name) == ("principal", "r1")
    for name in ("le marais boutique", "Le Boutique", "Bank of York", "the Bank", "book it", "Hotel de la Paix"):
        assert provenance(found, name) == "unknown"


def test_phrases_of_a_request_are_bounded() -> None:
    """Names far into a long request are recognized by their words alone."""
    found = index()
    found.say(f"Ask Jo Li Wu, {'Abc Def ' * 600}then Al Bo Cy or Constance Morgenstern", "r1")
    assert provenance(found, "Jo Li Wu") == "principal"
    assert provenance(found, "Al Bo Cy") == "unknown"
    assert provenance(found, "Constance Morgenstern") == "principal"


def test_spaces_are_dropped_from_valid_ibans_only() -> None:
    """An IBAN is the same however it is grouped; another account number is not."""
    found = index()
    found.say("Send it to DE89 3704 0044 0532 0130 00 TODAY.", "r1")
    assert provenance(found, "DE89370400440532013000") == "principal"
    assert provenance(found, "DE89 3704 0044 0532 0130 00") == "principal"
    assert provenance(found, "DE88370400440532013000") == "unknown"
    found.say("Account 1234 5678 9012", "r2")
    assert provenance(found, "123456789012") == "unknown"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://shop.example/pay", "principal"),
        ("https://SHOP.example/pay", "principal"),
        ("https://shop.example/Pay", "unknown"),
        ("https://shop.example/pay?to=evil-account", "untrusted"),
        ("https://shop.example.evil.example/pay", "unknown"),
        ("https://evil-account@shop.example/pay", "unknown"),
        ("https://evil.example/pay", "untrusted"),
        ("https://shop.example/pay?to=you", "unknown"),
        ("https://shop.example/list?by=name&to=me", "principal"),
        ("https://shop.example/list?by=me&to=name", "unknown"),
        ("../pay", "unknown"),
        ("/pay", "unknown"),
        (f"https://shop.example/list?{'by=name&' * 250}to=me", "principal"),
        (f"https://shop.example/list?{'by=name&' * 300}to=you", "unknown"),
        (f"https://shop.example/list?{'by=name&' * 254}to=you#you", "unknown"),
    ],
)
def test_a_url_is_as_good_as_its_weakest_piece(value: str, expected: str) -> None:
    """Host, path and each part of the query count; only the host is compared without regard to case."""
    found = index()
    found.say("Open https://shop.example/pay or https://shop.example/list?by=name&to=me", "r1")
    took(found, "see https://evil.example/x and evil-account", label=UNTRUSTED)
    assert provenance(found, value) == expected


def test_a_long_url_of_others_plants_no_host() -> None:
    """The host of a URL with more pieces than are looked at stays that of the input that had it first."""
    found = index()
    took(found, f"see https://evil.example/x?{'a=b&' * 300}", label=UNTRUSTED)
    took(found, "https://evil.example/x", label=TRUSTED)
    assert provenance(found, "https://evil.example") == "untrusted"


def test_a_list_is_as_good_as_its_weakest_element() -> None:
    """Elements count one by one, in lists and in texts that list addresses."""
    found = index()
    found.say("write to alice@example.com and bobby@example.com", "r1")
    took(found, "eve@evil.example", label=UNTRUSTED)
    assert provenance(found, ["alice@example.com", "bobby@example.com"]) == "principal"
    assert provenance(found, ["alice@example.com", "eve@evil.example"]) == "untrusted"
    assert provenance(found, "alice@example.com, bobby@example.com") == "principal"
    assert provenance(found, "alice@example.com;eve@evil.example") == "untrusted"
    assert provenance(found, {"to": ["alice@example.com", "new@example.com"]}) == "unknown"


def test_truth_values_say_nothing_and_numbers_are_compared_whole() -> None:
    """Booleans, null and empty texts have no provenance."""
    found = took(index(), {"n": 4217, "x": 2.0}, label=TRUSTED)
    assert (provenance(found, True), provenance(found, None), provenance(found, "")) == (None, None, None)
    found = took(index(), 4217, 2.0, label=TRUSTED)
    assert (provenance(found, 4217), provenance(found, 2), provenance(found, 42)) == ("trusted", "trusted", "unknown")


def test_an_echo_keeps_the_provenance_of_the_arguments() -> None:
    """What stood in the arguments of the call that returned it is no better than it was there."""
    found = took(index(), "evil-account", label=UNTRUSTED)
    given = ["evil-account", "made-up-name"]
    found.take([("evil-account", TRUSTED), ("made-up-name", TRUSTED), ("real-account", TRUSTED)], "r2", given)
    assert provenance(found, "evil-account") == "untrusted"
    assert provenance(found, "made-up-name") == "unknown"
    assert provenance(found, "real-account") == "trusted"


POOL = [
    *("acct-1234", "INV-42", "C-42", "7", "a@b", "mailto:a@b", "Alice@Example.com", "https://Shop.example/?a=b&c"),
    *(
        "DE89 3704 0044 0532 0130 00",
        "DE89370400440532013000",
        "e\u0301e\u0301e\u0301clair",
        "\xe9\xe9\xe9clair",
        "(word-1)",
    ),
]
TEXTS = st.lists(st.sampled_from(POOL), min_size=1, max_size=5).map(" ".join) | st.sampled_from(POOL) | VALUES
PARTS = st.lists(TEXTS | st.sampled_from([7, 4217, 2.0, True, None]), max_size=4)
LABELS = st.sampled_from([TRUSTED, UNKNOWN, UNTRUSTED])
HISTORIES = st.lists(
    st.tuples(st.just("take"), PARTS, LABELS, PARTS)
    | st.tuples(st.just("look"), TEXTS | st.sampled_from([7, 42]))
    | st.tuples(st.just("say"), TEXTS)
    | st.tuples(st.sampled_from(["miss", "weakest", "fork"])),
    max_size=14,
)


@given(HISTORIES)
def test_inputs_that_wait_change_no_answer(history: list[tuple[Any, ...]]) -> None:
    """An index that takes in each input at once gives the same answers, whatever is looked up in between."""
    late, early = ProvenanceIndex(b"k" * 32), ProvenanceIndex(b"k" * 32, waits=False)
    for number, (what, *details) in enumerate(history):
        for found in (late, early):
            if what == "take":
                found.take([(part, details[1]) for part in details[0]], f"r{number}", details[2])
            elif what == "say":
                found.say(details[0], f"r{number}")
            elif what == "miss":
                found.miss()
            elif what == "fork":
                found.absorb(found.forked())
        if what == "look":
            assert late.origin(details[0]) == early.origin(details[0])
        elif what == "weakest":
            assert late.weakest_of(POOL) == early.weakest_of(POOL)
    assert late.entries == early.entries
    assert late.blind == early.blind


@given(TEXTS)
def test_only_some_texts_are_known_by_short_ones(text: str) -> None:
    """Others are known by texts of six and more characters, and by pieces of URLs, so that no short one is in them."""
    if not rules._has_short_form(text):
        for form in (rules.normalized(text), *rules._forms_within([text])):
            assert len(form) >= 6 or form.startswith("url\0")


def test_inputs_wait_until_an_unknown_value_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A known value needs none of them, a short one none of the long; too many of them do not wait."""
    indexed, take = list[str](), ProvenanceIndex._index

    def counting(self: ProvenanceIndex, latest: Any) -> None:
        indexed.append(latest.source)
        take(self, latest)

    monkeypatch.setattr(ProvenanceIndex, "_index", counting)
    found = index()
    found.say("see order-1234", "r0")
    took(found, "a long text about order-1234 and acct-5678", label=UNTRUSTED, source="r1")
    assert (provenance(found, "order-1234"), provenance(found, "C-42"), indexed) == ("principal", "unknown", [])
    assert (found.origin("acct-5678"), indexed) == (("untrusted", "r1"), ["r1"])
    took(found, {"id": "C-42"}["id"], label=TRUSTED, source="r2")
    assert (found.origin("C-42"), indexed) == (("trusted", "r2"), ["r1", "r2"])
    monkeypatch.setattr(rules, "MAX_INPUT_CHARS", 30)
    took(found, "a" * 10, label=TRUSTED, source="r3")
    assert indexed == ["r1", "r2"]
    took(found, "b" * 10, label=TRUSTED, source="r4")
    assert indexed == ["r1", "r2", "r3", "r4"]
    took(found, "c" * 10, label=TRUSTED, source="r5")
    found.erase()
    took(found, "d" * 10, label=TRUSTED, source="r6")
    assert (len(found), indexed) == (0, ["r1", "r2", "r3", "r4", "r6"])


def test_what_waits_is_bounded_with_the_arguments_of_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large arguments whose call returns little, and results without parts, do not collect."""
    monkeypatch.setattr(rules, "MAX_INPUT_CHARS", 100)
    found = index()
    for number in range(10):
        found.take([("done", TRUSTED)], f"r{number}", ["x" * 60])
        found.take([], f"e{number}", ["x" * 60])
        assert len(found._waiting) <= 1
    assert provenance(found, "done") == "trusted"


def test_what_waits_behind_an_input_that_fails_is_indexed_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption, for one, leaves out one input, and not the untrusted values of those after it."""
    found, enter = took(index(), "a text of order-1234", label=TRUSTED), ProvenanceIndex._enter
    took(found, "a text with evil-account in it", label=UNTRUSTED, source="r2")

    def interrupted(self: ProvenanceIndex, *arguments: Any) -> None:
        monkeypatch.setattr(ProvenanceIndex, "_enter", enter)
        raise KeyboardInterrupt

    monkeypatch.setattr(ProvenanceIndex, "_enter", interrupted)
    with pytest.raises(KeyboardInterrupt):
        found.origin("evil-account")
    assert (found.origin("evil-account"), provenance(found, "order-1234")) == (("untrusted", "r2"), "unknown")


def test_an_index_that_could_not_take_in_what_waits_trusts_no_later_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing may have held a value that a trusted input repeats later."""
    found = took(index(), "a text with evil-account in it", label=UNTRUSTED)
    with monkeypatch.context() as patch:
        patch.setattr(ProvenanceIndex, "_enter", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            found.origin("evil-account")
    took(found, "evil-account", label=TRUSTED)
    assert provenance(found, "evil-account") == "unknown"


def test_what_was_not_taken_in_is_not_trusted_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bounds of an input, and of a task, values are unknown, also where a trusted input repeats them."""
    monkeypatch.setattr(rules, "MAX_INPUT_CHARS", 20)
    found = took(index(), "x" * 19, "evil-account", label=UNTRUSTED)
    took(found, "evil-account", label=TRUSTED)
    assert provenance(found, "evil-account") == "unknown"
    monkeypatch.setattr(rules, "MAX_INPUT_CHARS", 1_000)
    monkeypatch.setattr(rules, "MAX_VALUES", 3)
    full = took(index(), "first-1", "second-2", "third-3", "fourth-4", label=TRUSTED)
    assert len(full) == 3
    assert provenance(full, "fourth-4") == "unknown"


@pytest.mark.parametrize(
    ("before", "later", "part"),
    [
        ("pay DE89 3704 0044 0532 0130 00 now", "DE89 370400440532013000", "370400440532013000"),
        ("see foo\u037ebar123 there", "foo;bar123", "bar123"),
    ],
)
def test_a_known_value_in_another_spelling_has_other_parts(before: str, later: str, part: str) -> None:
    """A value that is known from within a text is taken in with its parts where it is spelled otherwise."""
    found = took(index(), before, label=UNTRUSTED)
    assert provenance(found, later) == "untrusted"
    assert provenance(took(found, later, label=UNTRUSTED), part) == "untrusted"


def test_a_long_request_is_not_cut_inside_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of a word at the bound is no word of the principal."""
    monkeypatch.setattr(rules, "MAX_INPUT_CHARS", 22)
    found = index()
    found.say("read-all /srv/data-public", "r1")
    assert provenance(found, "read-all") == "principal"
    assert provenance(found, "/srv/data-pub") == "unknown"


def test_an_erased_index_knows_nothing() -> None:
    """Once the task has ended nothing can be looked up, and nothing is taken in."""
    found = took(index(), "value-1", label=TRUSTED)
    found.erase()
    assert (len(found), provenance(found, "value-1")) == (0, "unknown")
    took(found, "value-1", label=TRUSTED)
    assert len(found) == 0


@pytest.mark.parametrize("text", ["A" * 200_000, "DE00 " * 40_000, "a@" * 100_000, "http://" * 30_000, "(" * 200_000])
def test_looking_at_hostile_text_takes_linear_work(text: str) -> None:
    """Texts made against the patterns are taken in and looked up; a pattern that backtracks would hang here."""
    found = took(index(), text, label=UNTRUSTED)
    assert provenance(found, text[:60_000]) in RANKS
