"""Declarations of one tool, for adapters that know their tools only by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast, final

from agent_identity._common.typed_calls import typed_calls
from agent_identity._flow.choices import choices_of_hints, choices_of_schema, properties_of
from agent_identity._flow.declaration import Returns
from agent_identity._guard.calls.arguments import Binder
from agent_identity._guard.judging.span_facts import SpanOptions
from agent_identity._guard.judging.tool_flow import DeclaredFlow, Restores
from agent_identity._guard.lifecycle.callables import check_body
from agent_identity._guard.lifecycle.deferred_results import Lazy, check_lazy
from agent_identity._guard.lifecycle.guarded_call import GuardedCall
from agent_identity._policy.decision.decision import check_labels
from agent_identity._policy.decision.resources import Touches, check_parameters, check_touches

_ELSEWHERE: Final = frozenset({"mcp", "model", "streamed_model"})
"""The kinds of models, and of tools of MCP servers, including those whose server is unknown."""


@typed_calls("__init__")
@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOptions:
    """Declarations of one tool that a framework calls, for ``tool_options=`` of its adapter.

    The parameters are those of :meth:`Enforcer.tool`.

    Args:
        labels: Labels of the tool, for the policy.
        data: Labels of the data that the tool touches.
        lazy: ``"resource"`` if results live on by themselves, like a connection.
        touches: The resources that the tool touches.
        returns: Who can have written the results of the tool.
        destination: Names of the arguments that decide where a call leads.
        endorses: Results have the declared label, whatever the inputs of the task were.
        restores: For each argument, the categories of kept values that replace its handles.
        content_on_spans: Show arguments and results on the spans of calls; by default as the environment says.

    Attributes:
        flow: The declarations about information flow.

    Raises:
        ValueError: A label, path or name is malformed.
        TypeError: Something has another type.
        ConfigurationError: ``lazy`` is an unknown word.
    """

    labels: Sequence[str] | None = None
    data: Sequence[str] | None = None
    lazy: Lazy | None = None
    touches: Touches | None = None
    returns: Returns | None = None
    destination: str | Sequence[str] | None = None
    endorses: bool = False
    restores: Restores | None = None
    content_on_spans: bool | None = None
    flow: DeclaredFlow = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", check_labels(self.labels, "labels"))
        object.__setattr__(self, "data", check_labels(self.data, "data"))
        object.__setattr__(self, "touches", None if self.touches is None else check_touches(self.touches))
        check_lazy(self.lazy)
        flow = DeclaredFlow(self.returns, self.destination, endorses=self.endorses, restores=self.restores)
        object.__setattr__(self, "flow", flow)

    def __hash__(self) -> int:
        return hash((self.labels, self.data, self.lazy, self.touches, self.flow, self.content_on_spans))

    @staticmethod
    def are_about(kind: str, server: str | None) -> bool:
        """Return whether declarations by name apply to a tool: not if others name it, and its server is unknown.

        Args:
            kind: The kind of the tool.
            server: The name of its server; ``None`` if it has none, or if it is unknown.
        """
        return server is not None or kind not in _ELSEWHERE

    def check(self, tool: str, schema: Mapping[str, object] | None) -> None:
        """Check that a tool has the named arguments, because a misspelled name would check nothing.

        Args:
            tool: The name of the tool.
            schema: The JSON Schema of its arguments; ``None`` if it is unknown.

        Raises:
            ConfigurationError: The tool does not have one of the arguments.
        """
        properties = None if schema is None or schema.get("additionalProperties") else schema.get("properties")
        if isinstance(properties, Mapping):
            names = list(cast("Mapping[str, object]", properties))
            self.flow.check_parameters(tool, names)
            check_parameters(tool, check_touches(self.touches), names)

    def check_function(self, tool: str, function: Callable[..., object], mode: str, *, method: bool = False) -> None:
        """Check that a function that runs a tool has the named arguments, and no results that would be withheld.

        Args:
            tool: The name of the tool.
            function: The function.
            mode: The mode of the enforcer; in monitor mode such results are only logged.
            method: Its first parameter is the receiver, whatever its name.

        Raises:
            ConfigurationError: It does not have one of the arguments; or, with code ``lazy_result``, its annotation
                names such results.
        """
        check_body(tool, function, self.lazy, mode)
        parameters = Binder(function, method=method).parameters
        check_parameters(tool, check_touches(self.touches), parameters)
        self.flow.check_parameters(tool, parameters)

    def guard(
        self,
        make: Callable[..., GuardedCall],
        name: str,
        *,
        kind: str,
        server: str | None,
        schema: Mapping[str, object] | None = None,
        hints: Mapping[str, object] | None = None,
        description: str | None = None,
        names_run: bool = False,
    ) -> GuardedCall:
        """Return the guard of a tool with these declarations.

        Args:
            make: :meth:`Enforcer.guard`.
            name: The name of the tool.
            kind: Its kind.
            server: Its server.
            schema: The JSON Schema of its arguments; ``None`` if it is unknown.
            hints: The annotations of its arguments by name, where it has no schema.
            description: The description that models get of it.
            names_run: The workflow of its calls names a single run, and no conversation.
        """
        if hints is None:
            flow = self.flow.of_tool(properties_of(schema), choices_of_schema(schema))
        else:
            flow = self.flow.of_tool(hints, choices_of_hints(hints))
        return make(
            name,
            kind=kind,
            server=server,
            labels=self.labels,
            data=self.data,
            lazy=self.lazy,
            touches=self.touches,
            flow=flow,
            spans=SpanOptions(description, self.content_on_spans, names_run),
        )
