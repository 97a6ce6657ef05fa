"""Every exception: one family, stable codes that no scrubber removes, whole after pickling."""

import inspect
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Decision, Effect, errors
from agent_identity.errors import AgentIdentityError, Denied, PolicyFormatError, VerificationError

CLASSES = [getattr(errors, name) for name in errors.__all__]
CODES = {
    "AgentIdentityError": "error",
    "AttenuationError": "not_attenuated",
    "ConfigurationError": "bad_configuration",
    "ContentBlocked": "content_blocked",
    "Denied": "denied",
    "EvidenceError": "evidence_unavailable",
    "ExchangeError": "exchange_refused",
    "GrantExpired": "grant_expired",
    "LimitExceeded": "limit_exceeded",
    "NoTask": "no_task",
    "OutOfScope": "out_of_scope",
    "PolicyBlocked": "policy_blocks",
    "PolicyFormatError": "bad_policy",
    "Routed": "routed",
    "StateError": "state_unavailable",
    "TokenError": "bad_token",
    "VerificationError": "not_verified",
}
SCRUBBED = re.compile(r"auth|session|secret|credential|passw|cookie|api_?key|jwt|ssn|csrf|xsrf|social")
ANSWERS = {"NoTask", "GrantExpired", "OutOfScope", "LimitExceeded", "PolicyBlocked", "ContentBlocked", "Routed"}


def test_every_exception_has_its_one_code() -> None:
    """Codes stand in records for years: a change of one, or a class without one, is noticed here."""
    assert {kind.__name__: kind.default_code for kind in CLASSES} == CODES
    assert len(set(CODES.values())) == len(CODES)


def test_the_module_exports_every_exception_that_it_defines() -> None:
    """No exception exists besides the public ones, and there are at most 18."""
    defined = {
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and kind.__module__ == errors.__name__ and issubclass(kind, BaseException)
    }
    assert defined == set(errors.__all__)
    assert len(defined) <= 18


@pytest.mark.parametrize("code", sorted(CODES.values()))
def test_codes_are_slugs_without_words_that_scrubbers_remove(code: str) -> None:
    """A code survives the scrubbers of tracing back ends and fits into a record."""
    assert re.fullmatch(r"[a-z][a-z0-9_]{0,63}", code)
    assert not SCRUBBED.search(code)


def test_answers_are_denials_and_malfunctions_end_in_error() -> None:
    """What refuses is a kind of Denied; everything else says Error in its name; all are one family."""
    for kind in CLASSES:
        assert issubclass(kind, AgentIdentityError)
        answer = kind.__name__ in ANSWERS | {"Denied"}
        assert issubclass(kind, Denied) is answer
        assert kind.__name__.endswith("Error") is not answer


@pytest.mark.parametrize("name", ["AttenuationError", "TokenError", "PolicyFormatError"])
def test_malformed_input_is_also_a_value_error(name: str) -> None:
    """Who catches ValueError round a parser catches these as well."""
    assert issubclass(getattr(errors, name), ValueError)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@given(message=st.text(max_size=40), code=st.none() | st.from_regex(r"[a-z]{1,20}", fullmatch=True))
def test_a_pickled_error_comes_back_whole(kind: type[AgentIdentityError], message: str, code: str | None) -> None:
    """Type, message, code and everything attached survive a process pool, under every protocol."""
    error = kind(message, code=code)
    error.reference = "r-1"  # type: ignore[attr-defined]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - Our own bytes.
        assert type(again) is kind
        assert again.args == (message,)
        assert str(again) == message
        assert again.code == (code or kind.default_code)
        assert vars(again) == vars(error)


def test_particulars_survive_pickling() -> None:
    """The decision of a refusal, the report of a verification and the place in a file come back equal."""
    decision = Decision(effect=Effect.BLOCK, reason="policy_blocks", rule="r")
    denied = pickle.loads(pickle.dumps(Denied("no", decision=decision, reference="ref")))  # noqa: S301
    assert (denied.decision, denied.reference) == (decision, "ref")
    failed = pickle.loads(pickle.dumps(VerificationError("no", report={"findings": 1})))  # noqa: S301
    assert failed.report == {"findings": 1}
    malformed = pickle.loads(pickle.dumps(PolicyFormatError("no", line=3, column=7)))  # noqa: S301
    assert (malformed.line, malformed.column) == (3, 7)


def test_facts_that_are_unknown_are_none() -> None:
    """Nothing is made up: without a decision, record, report or place the attribute says None."""
    assert (Denied("no").decision, Denied("no").reference) == (None, None)
    assert VerificationError("no").report is None
    assert (PolicyFormatError("no").line, PolicyFormatError("no").column) == (None, None)
