"""Zero code: options that an application makes itself are guarded by `instrument`."""

import asyncio
import dataclasses
import sys
from pathlib import Path
from typing import Any

import claude_agent_sdk as sdk
import pytest
from claude_code import StandIn, environment, say, use

import agent_identity as ai
from agent_identity.integrations.frameworks import claude_agent
from agent_identity.integrations.instrumentation import instrumented
from agent_identity.records import read


@pytest.mark.parametrize("own", [False, True])
async def test_options_of_the_application_are_guarded_once(tmp_path: Path, own: bool) -> None:
    """Every call is on record once, in monitor mode, also beside hooks of ours; options made later are as ever."""
    with ai.Enforcer.open(tmp_path / "evidence", mode="monitor") as enforcer:
        ai.instrument(enforcer)
        assert instrumented()["claude_agent"] is True
        turns = [[use("Bash", {"command": "touch ran", "description": "x"}, "1")], [say("done")]]
        stand_in = StandIn(turns, ())
        with stand_in.running():
            chosen = sdk.ClaudeAgentOptions(
                cwd=str(tmp_path),
                env=environment(tmp_path, stand_in),
                permission_mode="bypassPermissions",
                hooks=claude_agent.hooks(enforcer) if own else None,
            )
            async with asyncio.timeout(60):
                async for _ in sdk.query(prompt="do it", options=chosen):
                    pass
        ai.uninstrument()
        assert sdk.ClaudeAgentOptions().hooks is None
    assert (tmp_path / "ran").exists()
    assert [record.outcome for record in read(tmp_path / "evidence") if record.kind == "outcome"] == ["success"]


def answers(options: sdk.ClaudeAgentOptions) -> list[Any]:
    """Return who answers before a tool."""
    return [hook.__self__ for matcher in (options.hooks or {}).get("PreToolUse", ()) for hook in matcher.hooks]


async def test_options_that_are_copied_for_another_task_are_of_that_one(tmp_path: Path) -> None:
    """An application makes its options once, and adds to a copy for each request of somebody."""
    event = {
        "hook_event_name": "PreToolUse",
        "session_id": "s",
        "tool_name": "Bash",
        "tool_input": {"command": "ls"},
    }
    clerk, scope = ai.Agent("clerk", owner="fin@example.com"), ai.Scope("Bash")
    with ai.Enforcer.open(tmp_path / "evidence") as enforcer:
        undo = claude_agent.instrument(enforcer)
        base = [sdk.ClaudeAgentOptions()]
        for number, person in enumerate(("alice@example.com", "bob@example.com")):
            with enforcer.task("work", principal=ai.Human(person), agent=clerk, scope=scope):
                own = [dataclasses.replace(one, cwd=str(tmp_path)) for one in base]
                assert [len(answers(one)) for one in own] == [1] * len(own)
                assert answers(dataclasses.replace(own[0], model="m")) == answers(own[0])
                for place, one in enumerate(own):
                    asked = {**event, "tool_use_id": f"t{number}{place}"}
                    await answers(one)[0]._answer(asked, None, None)
                base.append(own[0])
        undo()
    found = [record.principal.id for record in read(tmp_path / "evidence") if record.kind == "intent"]
    assert found == ["alice@example.com", "bob@example.com", "bob@example.com"]


OLD = """\
import json, sys
if "-v" in sys.argv:
    sys.exit(print("2.1.300 (Claude Code)"))
for line in sys.stdin:
    asked = json.loads(line)
    if asked["type"] == "control_request":
        answer = {"subtype": "success", "request_id": asked["request_id"], "response": {}}
        print(json.dumps({"type": "control_response", "response": answer}), flush=True)
"""


@pytest.mark.parametrize("mode", ["monitor", "enforce"])
async def test_an_old_command_line_is_connected_to_in_monitor_mode_only(tmp_path: Path, mode: Any) -> None:
    """Hooks refuse a command line that would run a tool whose hook fails; in monitor mode they accept it."""
    program = tmp_path / "claude"
    program.write_text(f"#!{sys.executable}\n{OLD}")
    program.chmod(0o755)
    with ai.Enforcer.open(tmp_path / "evidence", mode=mode) as enforcer:
        undo = claude_agent.instrument(enforcer)
        options = sdk.ClaudeAgentOptions(cli_path=str(program))
        undo()
        client = sdk.ClaudeSDKClient(options)
        try:
            if mode == "monitor":
                await client.connect()
            else:
                with pytest.raises(sdk.CLIConnectionError):
                    await client.connect()
        finally:
            await client.disconnect()
