"""Ways around a guard, by framework: the outcome of each, and the test that tries it against the real framework.

The list of ``docs/how-to/frameworks.md`` is made of this; ``python tests/frameworks/doors.py`` prints it.
"""

import sys
from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

Outcome = Literal["guarded", "refused", "limit"]

FRAMEWORKS = {
    "langchain": "LangChain",
    "pydantic_ai": "Pydantic AI",
    "openai_agents": "OpenAI",
    "google_adk": "ADK",
    "claude_agent": "Claude",
    "crewai": "CrewAI",
    "strands": "Strands",
    "agent_framework": "Microsoft",
    "llama_index": "LlamaIndex",
}
"""The columns of the table, by the folder of their tests."""


class Probe(NamedTuple):
    """A way around a guard. Frozen.

    Attributes:
        does: What somebody does, as the table says it.
        outcomes: For each framework that has such a way, the outcome, and the file and name of the test.
    """

    does: str
    outcomes: dict[str, tuple[Outcome, str]]


_COPY: tuple[Outcome, str] = ("guarded", "test_instrumentation.py::test_a_copy_that_is_first_on_the_path_is_guarded")

_INNERMOST = "../integrations/test_langchain_innermost.py"

PROBES = (
    Probe(
        "code after the documented hook changes the arguments",
        {
            "langchain": (
                "guarded",
                f"{_INNERMOST}::test_a_tool_that_middleware_brings_is_judged_with_its_final_arguments",
            ),
            "pydantic_ai": ("guarded", "test_adversarial.py::test_arguments_that_others_change_are_judged"),
            "openai_agents": ("guarded", "test_bypasses.py::test_what_a_hook_changes_is_what_is_judged"),
            "google_adk": ("guarded", "test_bypasses.py::test_arguments_that_a_later_callback_changes_are_judged"),
            "claude_agent": ("limit", "test_claude_agent.py::test_a_hook_that_answers_after_ours_is_contradicted"),
            "crewai": ("guarded", "test_crewai_bypasses.py::test_a_later_hook_that_edits_the_arguments_is_judged"),
            "strands": ("guarded", "test_strands_bypasses.py::test_middleware_that_edits_the_call_is_judged"),
            "agent_framework": (
                "guarded",
                "test_bypasses.py::test_arguments_that_a_later_middleware_changes_are_judged",
            ),
        },
    ),
    Probe(
        "code after the hook puts another tool in place",
        {
            "langchain": ("guarded", f"{_INNERMOST}::test_the_tool_that_finally_runs_is_judged"),
            "pydantic_ai": ("guarded", "test_adversarial.py::test_a_toolset_that_runs_another_tool_is_judged_by_that"),
            "strands": ("guarded", "test_strands_bypasses.py::test_plugins_that_replace_the_tool_are_judged_by_it"),
        },
    ),
    Probe(
        "a hook, plugin, middleware or tool runs a tool object itself",
        {
            "langchain": ("guarded", f"{_INNERMOST}::test_the_tools_that_a_runtime_lists_are_guarded"),
            "pydantic_ai": ("guarded", "test_adversarial.py::test_code_that_calls_tools_by_itself_passes_the_guard"),
            "openai_agents": ("guarded", "test_bypasses.py::test_a_tool_that_is_called_directly_is_guarded"),
            "google_adk": ("guarded", "test_bypasses.py::test_a_plugin_before_ours_that_runs_the_tool_is_judged"),
            "crewai": ("guarded", "test_crewai_bypasses.py::test_a_hook_that_runs_the_tool_is_judged"),
            "strands": ("guarded", "test_strands_bypasses.py::test_a_hook_that_runs_the_tool_is_judged"),
            "agent_framework": (
                "guarded",
                "test_bypasses.py::test_a_middleware_that_runs_the_function_itself_is_judged",
            ),
            "llama_index": (
                "guarded",
                "test_adversarial.py::test_instrument_guards_tools_with_calls_of_their_own",
            ),
        },
    ),
    Probe(
        "a hook, plugin or middleware runs a bare tool, or the bare function of a tool",
        {
            "langchain": (
                "limit",
                f"{_INNERMOST}::test_a_bare_tool_in_a_request_that_middleware_makes_itself_is_not_judged",
            ),
            "google_adk": ("limit", "test_bypasses.py::test_a_plugin_that_calls_the_function_of_a_tool_is_not_judged"),
        },
    ),
    Probe(
        "a hook runs a tool at another event or in a thread of its own",
        {
            "strands": ("limit", "test_strands_bypasses.py::test_what_a_hook_runs_without_a_call_is_not_judged"),
        },
    ),
    Probe(
        "the program removes all hooks",
        {"crewai": ("guarded", "test_crewai_bypasses.py::test_hooks_that_are_cleared_leave_every_tool_guarded")},
    ),
    Probe(
        "a tool's class or object has a way to run of its own",
        {
            "openai_agents": ("refused", "test_bypasses.py::test_a_tool_that_cannot_be_guarded_is_not_listed"),
            "google_adk": ("refused", "test_bypasses.py::test_a_body_in_the_place_of_the_method_is_refused"),
            "crewai": (
                "refused",
                "test_crewai_bypasses.py::test_without_hooks_a_tool_that_cannot_be_guarded_is_refused",
            ),
            "strands": ("guarded", "test_strands_bypasses.py::test_a_tool_cannot_excuse_itself_by_its_type"),
            "agent_framework": (
                "guarded",
                "test_bypasses.py::test_a_tool_with_a_way_of_its_own_is_guarded_as_a_whole",
            ),
            "llama_index": (
                "guarded",
                "test_adversarial.py::test_instrument_guards_tools_with_calls_of_their_own",
            ),
        },
    ),
    Probe(
        "such a tool is run by a middleware itself",
        {
            "agent_framework": (
                "limit",
                "test_bypasses.py::test_a_middleware_that_runs_a_tool_with_a_way_of_its_own_is_not_judged",
            ),
        },
    ),
    Probe(
        "a handoff with input runs a function",
        {
            "openai_agents": (
                "guarded",
                "test_bypasses.py::test_the_function_of_a_handoff_with_input_is_a_guarded_call",
            ),
        },
    ),
    Probe(
        "a stream made under Alice is read under Bob",
        {
            "langchain": (
                "guarded",
                "../integrations/test_langchain_agents.py::test_ac_36_a_stream_never_runs_as_its_consumer",
            ),
            "pydantic_ai": ("guarded", "test_calls.py::test_calls_of_a_stream_run_under_the_task_in_which_it_began"),
            "openai_agents": ("guarded", "test_models.py::test_a_stream_runs_under_the_task_in_which_it_was_made"),
            "google_adk": ("guarded", "test_bypasses.py::test_a_stream_made_under_alice_runs_as_alice"),
            "crewai": ("guarded", "test_crewai_calls.py::test_a_stream_runs_under_the_task_in_which_it_was_made"),
            "strands": (
                "guarded",
                "test_strands_calls.py::test_zero_code_binds_streams_to_the_task_in_which_they_were_made",
            ),
            "agent_framework": ("guarded", "test_bypasses.py::test_a_stream_made_under_alice_runs_as_alice"),
            "llama_index": ("guarded", "test_calls.py::test_a_run_keeps_the_task_in_which_it_began"),
        },
    ),
    Probe(
        "a generator tool goes on after its task",
        {
            "llama_index": (
                "guarded",
                "test_adversarial.py::test_a_generator_that_a_tool_returned_stops_with_its_task",
            ),
            "google_adk": (
                "refused",
                "test_calls.py::test_a_generator_that_a_live_connection_would_call_itself_is_refused",
            ),
            "strands": ("guarded", "test_strands_calls.py::test_a_generator_tool_stops_with_its_task"),
        },
    ),
    Probe(
        "a rejected call is resumed in another thread, while the policy no longer asks anyone",
        {
            "pydantic_ai": ("refused", "test_approvals.py::test_another_conversation_frees_no_call"),
            "google_adk": ("refused", "test_approvals.py::test_another_session_frees_no_call"),
            "strands": ("refused", "test_strands_approvals.py::test_a_snapshot_in_another_agent_frees_no_call"),
        },
    ),
    Probe("another copy of the framework is first on the path", dict.fromkeys(FRAMEWORKS, _COPY)),
)
"""Every probe of the list, in its order."""


def tests() -> Iterator[tuple[str, str]]:
    """Yield the file, from the folder of this one, and the name of the test of each cell."""
    for probe in PROBES:
        for framework, (_, node) in probe.outcomes.items():
            file, _, test = node.partition("::")
            in_folder = not file.startswith("..") and node is not _COPY[1]
            yield f"{framework}/{file}" if in_folder else file, test


def table() -> str:
    """Return the part of the page: a line for each probe, with the frameworks of each outcome."""
    return "\n".join(f"- {probe.does}: {'; '.join(_outcomes(probe))}" for probe in PROBES)


def _outcomes(probe: Probe) -> Iterator[str]:
    found = {outcome for outcome, _ in probe.outcomes.values()}
    for outcome in (outcome for outcome in get_args(Outcome) if outcome in found):
        named = [FRAMEWORKS[name] for name in FRAMEWORKS if probe.outcomes.get(name, ("",))[0] == outcome]
        yield f"{outcome} ({'all' if len(named) == len(FRAMEWORKS) else ', '.join(named)})"


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
