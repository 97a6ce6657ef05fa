"""Decisions, requests, findings and patterns of tool names."""

import dataclasses
import fnmatch
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Decision, Effect, Finding, Human, Inspector, Policy, Request, RuleSet
from agent_identity._policy.decision.patterns import matches
from agent_identity.policy import Content, Tool


def test_a_decision_is_frozen_and_survives_pickling() -> None:
    """A decision cannot be changed, and crosses process pools unharmed."""
    decision = Decision(effect=Effect.ROUTE, reason="policy_routes", route="approval-desk", warnings=("w",))
    with pytest.raises(dataclasses.FrozenInstanceError):
        decision.effect = Effect.ALLOW  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(decision)) == decision  # noqa: S301 - Our own bytes.


@pytest.mark.parametrize("effect", ["allow", None, "ALLOW", 1, type("Odd", (), {"value": "allow"})()])
def test_ac_72_a_decision_has_no_other_effect(effect: object) -> None:
    """A decision with anything but one of the four effects cannot be made."""
    with pytest.raises(TypeError, match="use a member of Effect"):
        Decision(effect=effect, reason="x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reason": "Two words"}, "reason code"),
        ({"reason": ""}, "reason code"),
        ({"why": "x" * 257}, "printable line"),
        ({"why": "two\nlines"}, "printable line"),
        ({"why": 5}, "printable line"),
        ({"route": "desk"}, "route and effect do not fit"),
        ({"effect": Effect.ROUTE}, "route and effect do not fit"),
        ({"effect": Effect.ROUTE, "route": "a desk"}, "a route is malformed"),
        ({"effect": Effect.ROUTE, "route": ""}, "a route is malformed"),
    ],
)
def test_a_malformed_decision_cannot_be_made(changes: dict[str, object], message: str) -> None:
    """Reasons are slugs, explanations are short lines, and a route goes with the effect route only."""
    fields: dict[str, object] = {"effect": Effect.BLOCK, "reason": "policy_blocks", **changes}
    with pytest.raises(ValueError, match=message):
        Decision(**fields)  # type: ignore[arg-type]


def test_the_longest_explanation_fits() -> None:
    """An explanation may have 256 characters."""
    assert Decision(effect=Effect.BLOCK, reason="x", why="é" * 256).why == "é" * 256


def test_a_request_shows_no_values_and_cannot_be_changed() -> None:
    """The representation of a request names arguments but never shows their values."""
    request = Request(Tool("pay"), {"iban": "DE89 3704"}, principal=Human("alice@example.com"))
    assert repr(request) == "Request(tool='pay', arguments=['iban'], stage='call')"
    with pytest.raises(AttributeError):
        request.stage = "result"  # type: ignore[misc]
    assert "DE89" not in repr(Content(direction="input", tool="pay", value="DE89 3704"))


@pytest.mark.parametrize(
    "changes", [{"category": "api key"}, {"inspector": ""}, {"severity": "fatal"}, {"category": "x" * 129}]
)
def test_a_malformed_finding_cannot_be_made(changes: dict[str, object]) -> None:
    """Findings carry names and one of three severities, so that no content leaks through them."""
    fields: dict[str, object] = {"category": "api_key", "inspector": "patterns", **changes}
    with pytest.raises(ValueError, match=r"malformed|unknown"):
        Finding(**fields)  # type: ignore[arg-type]


def test_a_finding_is_of_medium_severity_unless_said() -> None:
    """A finding without a severity is of medium severity."""
    assert Finding(category="api_key", inspector="patterns").severity == "medium"


def test_the_protocols_are_met_structurally() -> None:
    """A rule set is a policy, and any class with the method is an inspector."""

    class Silent:
        def inspect(self, content: Content) -> tuple[Finding, ...]:
            return ()

    policy: Policy = RuleSet()
    inspector: Inspector = Silent()
    assert policy.decide(Request(Tool("pay"), {})).effect is Effect.ALLOW
    assert inspector.inspect(Content(direction="input", tool="pay", value=None)) == ()


@given(pattern=st.text("ab*?", min_size=1, max_size=12), name=st.text("abc", max_size=12))
def test_patterns_agree_with_fnmatch(pattern: str, name: str) -> None:
    """With ``*`` and ``?`` alone the matcher agrees with the standard library."""
    assert matches(pattern, name) is fnmatch.fnmatchcase(name, pattern)


@given(name=st.text("ab", max_size=20), data=st.data())
def test_a_pattern_made_from_a_name_matches_it(name: str, data: st.DataObject) -> None:
    """Replacing characters by ``?`` and stretches by ``*`` keeps the name matched."""
    start = data.draw(st.integers(0, len(name)))
    end = data.draw(st.integers(start, len(name)))
    assert matches(f"{name[:start]}*{name[end:]}", name)
    assert matches("".join(data.draw(st.sampled_from([sign, "?"])) for sign in name), name)
    assert not matches(f"{name}?", name)


def test_brackets_are_no_wildcards() -> None:
    """Only ``*`` and ``?`` are wildcards, and upper and lower case differ."""
    assert not matches("Pay", "pay")
    assert not matches("[p]ay", "pay")
