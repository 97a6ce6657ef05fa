"""The one name of a tool, and the server that it belongs to."""

import pytest

from agent_identity._identity.common.tool_names import names_at_servers, server_of, tool_name


def test_a_tool_of_a_server_has_its_name_before_its_own() -> None:
    """A tool of this process has its own."""
    assert (tool_name("web", "fetch"), tool_name(None, "fetch")) == ("web/fetch", "fetch")


@pytest.mark.parametrize(
    ("name", "server"),
    [
        ("web/fetch", "web"),
        ("web:prompt/ask", "web"),
        ("web/mail/send", "web/mail"),
        ("webs/fetch", None),
        ("web", None),
        ("https://a.example/mcp/fetch", "https://a.example/mcp"),
    ],
)
def test_the_server_of_a_name_is_the_longest_registered_one(name: str, server: str | None) -> None:
    """Names of servers and tools may have slashes, so only registrations tell."""
    assert server_of(name, ["web", "web/mail", "https://a.example/mcp"]) == server


def test_each_end_of_a_name_may_be_that_at_a_server() -> None:
    """As spans of other libraries have it."""
    assert names_at_servers("web/mail/send") == ("mail/send", "send")
    assert names_at_servers("send") == ()
