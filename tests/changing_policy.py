"""A policy that asks a person first, and nobody any more later."""

from agent_identity import Decision, Effect, Request, Rule, RuleSet

__all__ = ["Changing"]


class Changing:
    """Routes a tool to a channel until it is told to ask nobody.

    Args:
        tool: The tool.
        route: The name of the channel.
    """

    name, version, digest = "changing", "1", "A" * 43

    def __init__(self, tool: str = "pay", route: str = "desk") -> None:
        self._asking = RuleSet(Rule(Effect.ROUTE, tools=tool, reason="two people decide", to=route))
        self.asks = True

    def decide(self, request: Request) -> Decision:
        """Answer a request."""
        return self._asking.decide(request) if self.asks else Decision(effect=Effect.ALLOW, reason="default")
