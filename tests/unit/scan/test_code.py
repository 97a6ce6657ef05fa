"""Declarations in Python code: found by what names mean, not by how they are spelled."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agent_identity._scan.results import Item, Scan
from agent_identity._scan.scanner import scan

Write = Callable[[Mapping[str, str]], Scan]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes files, and scans their folder."""

    def run(files: Mapping[str, str]) -> Scan:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        return scan([str(tmp_path)])

    return run


def facts(found: Scan, *kinds: str) -> set[tuple[str, str, str]]:
    """Return kind, name and source of the items of some kinds."""
    return {(item.kind, item.name, item.source) for item in found.items if item.kind in kinds}


def named(found: Scan, kind: str, name: str) -> Item:
    """Return the one item of a kind with a name."""
    (item,) = (item for item in found.items if (item.kind, item.name) == (kind, name))
    return item


FRAMEWORKS: Mapping[str, tuple[str, set[tuple[str, str, str]]]] = {
    "openai": (
        (
            "from agents import Agent as A, handoff\nfrom agents.decorators import tool\n"
            "from agents.mcp import MCPServerStdio\n"
            "@tool\ndef pay(x: int): ...\n"
            "clerk = A[dict](name='clerk', model='gpt-x', tools=[pay])\n"
            "boss = A(name='boss', handoffs=[handoff(agent=clerk)])\n"
            "fs = MCPServerStdio(name='fs', params={'command': 'npx', 'args': ['srv']})\n"
        ),
        {
            ("agent", "clerk", "OpenAI Agents"),
            ("agent", "boss", "OpenAI Agents"),
            ("tool", "pay", "OpenAI Agents"),
            ("model", "gpt-x", "OpenAI Agents"),
            ("mcp_client", "fs", "OpenAI Agents"),
        },
    ),
    "adk": (
        (
            "from google.adk.agents.llm_agent import Agent\nfrom google.adk.agents import SequentialAgent\n"
            "from google.adk.tools import google_search\nfrom google.adk.tools.mcp_tool import MCPToolset\n"
            "def pay(x): ...\n"
            "a = Agent(name='a', model='gemini-x', tools=[pay, google_search, MCPToolset(url='https://m.example.com/mcp')])\n"
            "s = SequentialAgent(name='s', sub_agents=[a])\n"
        ),
        {
            ("agent", "a", "Google ADK"),
            ("orchestrator", "s", "Google ADK"),
            ("tool", "pay", "Google ADK"),
            ("tool", "google_search", "Google ADK"),
            ("model", "gemini-x", "Google ADK"),
            ("mcp_client", "", "Google ADK"),
        },
    ),
    "crewai": (
        (
            "from crewai import Agent, Crew\nfrom crewai.flow.flow import Flow\n"
            "from crewai.tools import tool, BaseTool\n"
            "class Search(BaseTool):\n    name: str = 'search'\n"
            "class Poem(Flow[dict]): ...\n"
            "@tool('pay it')\ndef pay(x): ...\n"
            "class C:\n    def writer(self):\n"
            "        return Agent(config=self.agents_config['writer'], tools=[Search(), pay])\n"
            "    def crew(self):\n        return Crew(agents=self.agents)\n"
        ),
        {
            ("agent", "writer", "CrewAI"),
            ("orchestrator", "crew", "CrewAI"),
            ("orchestrator", "Poem", "CrewAI"),
            ("tool", "search", "CrewAI"),
            ("tool", "pay it", "CrewAI"),
        },
    ),
    "langchain": (
        (
            "from langchain.agents import create_agent\nfrom langchain_core.tools import tool, StructuredTool\n"
            "from langchain_openai import ChatOpenAI\nfrom langgraph.graph import StateGraph\n"
            "from langchain_mcp_adapters.client import MultiServerMCPClient\n"
            "@tool\ndef pay(x): ...\ndef look(x): ...\nTOOLS = [pay, StructuredTool.from_function(look)]\n"
            "a = create_agent(ChatOpenAI(model='gpt-x'), tools=TOOLS, name='clerk')\n"
            "g = StateGraph(dict)\n"
            "m = MultiServerMCPClient({'one': {'command': 'x'}, 'two': {'url': 'https://m.example.com/mcp'}})\n"
        ),
        {
            ("agent", "clerk", "LangChain"),
            ("orchestrator", "g", "LangChain"),
            ("tool", "pay", "LangChain"),
            ("tool", "look", "LangChain"),
            ("model", "gpt-x", "LangChain"),
            ("mcp_client", "one", "LangChain"),
            ("mcp_client", "two", "LangChain"),
        },
    ),
    "deepagents": (
        (
            "from deepagents import create_deep_agent\ndef search(q): ...\n"
            "helper = {'name': 'helper', 'tools': [search]}\n"
            "boss = create_deep_agent(subagents=[helper, {'name': 'other'}])\n"
        ),
        {
            ("agent", "boss", "Deep Agents"),
            ("agent", "helper", "Deep Agents"),
            ("agent", "other", "Deep Agents"),
            ("tool", "search", "Deep Agents"),
        },
    ),
    "pydantic_ai": (
        (
            "from pydantic_ai import Agent\nfrom pydantic_ai.mcp import MCPServerSSE\n"
            "support = Agent('openai:gpt-x')\n"
            "@support.tool\nasync def balance(ctx): ...\n@support.tool_plain\ndef dice(): ...\n"
            "m = MCPServerSSE('https://m.example.com/sse')\n"
        ),
        {
            ("agent", "support", "Pydantic AI"),
            ("tool", "balance", "Pydantic AI"),
            ("tool", "dice", "Pydantic AI"),
            ("model", "openai:gpt-x", "Pydantic AI"),
            ("mcp_client", "m", "Pydantic AI"),
        },
    ),
    "agent_framework": (
        (
            "from agent_framework import Agent, WorkflowBuilder, MCPStreamableHTTPTool, tool\n"
            "from agent_framework.openai import OpenAIChatClient\n"
            "@tool(approval_mode='never_require')\ndef pay(x): ...\n"
            "c = OpenAIChatClient()\n"
            "a = Agent(client=c, name='a', tools=pay)\n"
            "b = c.as_agent(name='b', tools=MCPStreamableHTTPTool(name='docs', url='https://m.example.com/mcp'))\n"
            "w = WorkflowBuilder(name='w')\n"
        ),
        {
            ("agent", "a", "Microsoft Agent Framework"),
            ("agent", "b", "Microsoft Agent Framework"),
            ("orchestrator", "w", "Microsoft Agent Framework"),
            ("tool", "pay", "Microsoft Agent Framework"),
            ("mcp_client", "docs", "Microsoft Agent Framework"),
            ("model", "c", "Microsoft Agent Framework"),
        },
    ),
    "semantic_kernel": (
        (
            "from semantic_kernel.agents import ChatCompletionAgent\n"
            "from semantic_kernel.functions import kernel_function\n"
            "class Menu:\n    @kernel_function(name='specials')\n    def get(self): ...\n"
            "a = ChatCompletionAgent(name='a', plugins=[Menu()])\n"
        ),
        {("agent", "a", "Semantic Kernel"), ("tool", "specials", "Semantic Kernel")},
    ),
    "strands": (
        (
            "from strands import Agent, tool\nfrom strands.tools.mcp import MCPClient\n"
            "from strands_tools import calculator\n"
            "from mcp import StdioServerParameters, stdio_client\n"
            "@tool\ndef pay(x): ...\n"
            "m = MCPClient(lambda: stdio_client(StdioServerParameters(command='uvx', args=['srv'])))\n"
            "bot = Agent(tools=[pay, calculator])\nanswer = bot('hello')\n"
        ),
        {
            ("agent", "bot", "Strands"),
            ("tool", "pay", "Strands"),
            ("tool", "calculator", "Strands"),
            ("mcp_client", "m", "Strands"),
        },
    ),
    "claude": (
        (
            "from claude_agent_sdk import AgentDefinition, ClaudeAgentOptions, ClaudeSDKClient\n"
            "from claude_agent_sdk import create_sdk_mcp_server, tool\n"
            "@tool('add', 'Adds', {})\nasync def add_numbers(args): ...\n"
            "s = create_sdk_mcp_server('calc', tools=[add_numbers])\n"
            "o = ClaudeAgentOptions(model='opus', allowed_tools=['Read', 'mcp__calc__add'],\n"
            "    mcp_servers={'calc': s, 'out': {'url': 'https://m.example.com/mcp'}},\n"
            "    agents={'reviewer': AgentDefinition(description='', prompt='')})\n"
            "client = ClaudeSDKClient(options=o)\n"
        ),
        {
            ("agent", "reviewer", "Claude Agent SDK"),
            ("agent", "client", "Claude Agent SDK"),
            ("tool", "add", "Claude Agent SDK"),
            ("tool", "Read", "Claude Agent SDK"),
            ("model", "opus", "Claude Agent SDK"),
            ("mcp_server", "calc", "Claude Agent SDK"),
            ("mcp_client", "out", "Claude Agent SDK"),
        },
    ),
    "llamaindex": (
        (
            "from llama_index.core.agent.workflow import FunctionAgent, AgentWorkflow\n"
            "from llama_index.core.tools import FunctionTool\nfrom llama_index.llms.openai import OpenAI\n"
            "def pay(x): ...\n"
            "a = FunctionAgent(name='a', tools=[FunctionTool.from_defaults(fn=pay)], llm=OpenAI(model='gpt-x'))\n"
            "w = AgentWorkflow(agents=[a])\n"
        ),
        {
            ("agent", "a", "LlamaIndex"),
            ("orchestrator", "w", "LlamaIndex"),
            ("tool", "pay", "LlamaIndex"),
            ("model", "gpt-x", "LlamaIndex"),
        },
    ),
    "mcp": (
        (
            "from mcp.server.mcpserver import MCPServer\nfrom mcp.server.lowlevel import Server\n"
            "import mcp.types as types\n"
            "from fastmcp import FastMCP, Client\n"
            "s = MCPServer('v2')\n@s.tool()\ndef add(): ...\n"
            "low = Server('low')\n@low.list_tools()\nasync def listed():\n    return [types.Tool(name='sub')]\n"
            "class App:\n    def __init__(self):\n        self.m = FastMCP('fast')\n"
            "def register(m: FastMCP):\n    @m.tool(name='mul')\n    def multiply(): ...\n"
            "c = Client('https://m.example.com/mcp')\n"
        ),
        {
            ("mcp_server", "v2", "MCP SDK"),
            ("mcp_server", "low", "MCP SDK"),
            ("mcp_server", "fast", "FastMCP"),
            ("mcp_client", "c", "FastMCP"),
            ("tool", "add", "MCP SDK"),
            ("tool", "sub", "MCP SDK"),
            ("tool", "mul", "FastMCP"),
        },
    ),
    "llama_index_functions": (
        (
            "from llama_index.core.agent.workflow import AgentWorkflow\nfrom workflows import Workflow\n"
            "def pay(x): ...\n"
            "class Steps(Workflow): ...\n"
            "w = AgentWorkflow.from_tools_or_functions([pay])\n"
        ),
        {
            ("orchestrator", "w", "LlamaIndex"),
            ("orchestrator", "Steps", "LlamaIndex"),
            ("tool", "pay", "LlamaIndex"),
        },
    ),
    "semantic_kernel_servers": (
        (
            "from semantic_kernel import Kernel\nfrom semantic_kernel.agents import ChatCompletionAgent\n"
            "named = Kernel().as_mcp_server(server_name='notes')\n"
            "a = ChatCompletionAgent(name='a')\nserver = a.as_mcp_server()\n"
        ),
        {
            ("mcp_server", "notes", "Semantic Kernel"),
            ("mcp_server", "server", "Semantic Kernel"),
            ("agent", "a", "Semantic Kernel"),
        },
    ),
    "fastmcp_tools": (
        "from fastmcp.tools import tool\n@tool(name='add-numbers')\ndef add(): ...\n@tool\ndef multiply(): ...\n",
        {("tool", "add-numbers", "FastMCP"), ("tool", "multiply", "FastMCP")},
    ),
}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_framework_is_read(write: Write, name: str) -> None:
    """Each framework's agents, tools, models and MCP ends are found, and nothing else is."""
    code, expected = FRAMEWORKS[name]
    found = write({"app.py": code})
    kinds = ("agent", "orchestrator", "tool", "model", "mcp_client", "mcp_server")
    assert facts(found, *kinds) == expected


def test_a_server_that_a_file_only_receives_has_tools(write: Write) -> None:
    """A method ``tool`` of a receiver that nothing describes declares tools where MCP is imported, and only there."""
    handler = (
        "class Handler:\n    def __init__(self, mcp):\n        self.mcp = mcp\n"
        "        self.mcp.tool(name='look up')(self.look)\n        self.mcp.tool()(self.listed)\n"
        "        self.mcp.tool(name=mcp.title)(self.listed)\n"
        "    def look(self): ...\n    def listed(self): ...\n"
        "def register(server):\n    @server.tool\n    def add(): ...\n"
        "    @server.tool(name='mul')\n    def multiply(): ...\n"
        "import click\n@click.tool\ndef none(): ...\n"
    )
    found = write({"mine.py": "from mcp.types import TextContent\n" + handler, "other.py": handler})
    assert {(item.name, Path(item.file).name) for item in found.items if item.kind == "tool"} == {
        ("look up", "mine.py"),
        ("listed", "mine.py"),
        ("", "mine.py"),
        ("add", "mine.py"),
        ("mul", "mine.py"),
    }


def test_a_module_that_describes_a_tool_is_one(write: Write) -> None:
    """``TOOL_SPEC`` of a module for Strands names a tool; a name from elsewhere is dynamic, other modules have none."""
    spec = "import os\nTOOL_SPEC = {'name': %s, 'description': 'x'}\n"
    found = write(
        {
            "a.py": "from strands.types.tools import ToolUse\n" + spec % "'book'",
            "b.py": "from strands.types.tools import ToolUse\n" + spec % "os.name",
            "c.py": spec % "'none'",
        }
    )
    assert {(item.name, item.named_by) for item in found.items if item.kind == "tool"} == {
        ("book", "literal"),
        ("", "dynamic"),
    }


def test_names_are_followed_through_the_scanned_code(write: Write) -> None:
    """Re-exports, constants, lists and functions of other files are followed; a tool stands where it is defined."""
    found = write(
        {
            "pkg/__init__.py": "from .base import Assistant\n",
            "pkg/base.py": "from agents import Agent as Assistant\nMODEL = 'gpt-' + 'x'\n",
            "pkg/kit.py": "def search(q): ...\nKIT = [search]\n",
            "app.py": "import pkg.base\nfrom pkg import Assistant\nfrom pkg.kit import KIT\n"
            "a = Assistant(name=f'{\"cle\"}rk', model=pkg.base.MODEL, tools=[*KIT])\n",
        }
    )
    assert facts(found, "agent", "model", "tool") == {
        ("agent", "clerk", "OpenAI Agents"),
        ("model", "gpt-x", "OpenAI Agents"),
        ("tool", "search", "OpenAI Agents"),
    }
    tool = named(found, "tool", "search")
    assert (Path(tool.file).name, tool.line) == ("kit.py", 1)


def test_the_same_word_of_another_package_is_not_an_agent(write: Write) -> None:
    """A name counts only with its import: an own package ``agents``, an estate agent and a comment are none."""
    found = write(
        {
            "agents/__init__.py": "class Agent: ...\n",
            "app.py": "from agents import Agent\nfrom estate import Agent as Broker, tool\n"
            "@tool\ndef f(): ...\na = Agent(name='a')\nb = Broker(name='b')\n# Agent(name='c')\n",
        }
    )
    assert found.items == ()


def test_what_only_running_code_knows_is_dynamic(write: Write) -> None:
    """A name from the environment, and tools from a call, are reported as dynamic and not dropped."""
    found = write(
        {
            "app.py": "import os\nfrom agents import Agent\n"
            "a = Agent(name=os.getenv('N'), model=os.environ['OPENAI_MODEL'], tools=load())\n"
        }
    )
    assert {(item.kind, item.name, item.named_by) for item in found.items} == {
        ("agent", "a", "dynamic"),
        ("tool", "", "dynamic"),
        ("model", "", "dynamic"),
        ("environment", "OPENAI_MODEL", "literal"),
    }


def test_our_guards_are_seen(write: Write) -> None:
    """Decorated and protected tools and agents with our middleware are guarded; an agent is as its tools are."""
    found = write(
        {
            "app.py": "from agent_identity import Enforcer\nfrom agent_identity.integrations.langchain import protect\n"
            "from agent_identity.integrations.langchain.middleware import AgentIdentityMiddleware\n"
            "from langchain.agents import create_agent\nfrom langchain_core.tools import tool\n"
            "e = Enforcer.open('evidence')\n"
            "@e.tool\ndef pay(): ...\n@tool\n@e.tool(labels=['x'])\ndef both(): ...\n"
            "@tool\ndef late(): ...\nprotect(late, e)\n@tool\ndef bare(): ...\n"
            "a = create_agent('m', [bare], name='a', middleware=[AgentIdentityMiddleware(e)])\n"
            "b = create_agent('m', [bare], name='b')\n"
            "@tool\ndef inner(): ...\n"
            "c = create_agent('m', [inner], name='c', middleware=[AgentIdentityMiddleware(e)])\n"
            "d = create_agent('m', [pay, both], name='d')\nf = create_agent('m', name='f')\n"
        }
    )
    guarded = {item.name: item.guarded for item in found.items if item.kind in ("tool", "agent")}
    assert guarded == {
        "pay": True,
        "both": True,
        "late": True,
        "bare": False,
        "inner": True,
        "a": True,
        "b": False,
        "c": True,
        "d": True,
        "f": None,
    }


OURS = "import agent_identity as ai\nfrom agent_identity.integrations.frameworks"
"""The beginning of a program that guards agents of a framework."""


LINES = {
    "pydantic-ai": f"""
from pydantic_ai import Agent
{OURS}.pydantic_ai import AgentIdentity
def pay(): ...
guard = AgentIdentity(ai.Enforcer.open("evidence"))
clerk = Agent("m", name="clerk", tools=[pay], capabilities=[guard])
""",
    "strands": f"""
from strands import Agent, tool
{OURS}.strands import AgentIdentityHooks
@tool
def pay(): ...
clerk = Agent(name="clerk", tools=[pay], hooks=[AgentIdentityHooks(ai.Enforcer.open("evidence"))])
""",
    "agent-framework": f"""
from agent_framework import Agent, tool
{OURS}.agent_framework import AgentIdentityMiddleware
@tool
def pay(): ...
clerk = Agent(name="clerk", tools=[pay], middleware=[AgentIdentityMiddleware(ai.Enforcer.open("evidence"))])
""",
    "crewai": f"""
from crewai import Agent, Crew
from crewai.tools import tool
{OURS}.crewai import protect
@tool
def pay(): ...
clerk = Agent(role="clerk", tools=[pay])
crew = Crew(agents=[clerk])
protect(crew, ai.Enforcer.open("evidence"))
""",
    "openai-agents": f"""
from agents import Agent, function_tool
{OURS}.openai_agents import protect
@function_tool
def pay(): ...
clerk = Agent(name="clerk", tools=[pay])
boss = Agent(name="boss", handoffs=[clerk])
protect(boss, ai.Enforcer.open("evidence"))
""",
    "llama-index": f"""
from llama_index.core.agent.workflow import FunctionAgent
{OURS}.llama_index import protect
def pay(): ...
clerk = FunctionAgent(name="clerk", tools=protect([pay], ai.Enforcer.open("evidence")))
""",
}


@pytest.mark.parametrize("program", LINES.values(), ids=LINES)
def test_the_line_of_each_framework_is_seen(write: Write, program: str) -> None:
    """An agent that has the guard of its framework is guarded, and so is its tool."""
    found = write({"app.py": program})
    assert named(found, "agent", "clerk").guarded
    assert named(found, "tool", "pay").guarded


EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_nothing_in_our_examples_is_called_unguarded(example: Path) -> None:
    """Each way to guard that an example shows is seen, or is in doubt; one example has tools that a function makes."""
    found = scan([str(example)])
    unguarded = [item.name for item in found.items if item.guarded is False]
    assert bool(unguarded) == (example.stem == "invoice_agents")


def test_tools_of_a_server_that_is_guarded_later_are_guarded(write: Write) -> None:
    """A tool is guarded as its server is, also where another line guards the server."""
    found = write(
        {
            "app.py": "from fastmcp import FastMCP\n"
            "from agent_identity.integrations.mcp.server import protect_server\n"
            "a = FastMCP('a')\nprotect_server(a, e, name='a')\nb = FastMCP('b')\n"
            "@a.tool\ndef pay(): ...\n@b.tool\ndef look(): ...\n"
        }
    )
    assert named(found, "tool", "pay").guarded
    assert named(found, "tool", "look").guarded is False


def test_a_model_beside_a_guard_is_not_guarded(write: Write) -> None:
    """A guard says nothing of the model that is named on the same line."""
    found = write(
        {
            "app.py": "from strands import Agent\n"
            f"{OURS}.strands import AgentIdentityHooks\n"
            "a = Agent(name='a', model='m', hooks=[AgentIdentityHooks(ai.Enforcer.open('e'))])\n"
        }
    )
    assert named(found, "model", "m").guarded is None


def test_agents_that_hand_off_to_each_other_are_guarded_once(write: Write) -> None:
    """A cycle of hand-offs ends, and both agents are guarded."""
    found = write(
        {
            "app.py": f"from agents import Agent\n{OURS}.openai_agents import protect\n"
            "a = Agent(name='a', handoffs=[b])\nb = Agent(name='b', handoffs=[a])\nprotect(a, ai.Enforcer.open('e'))\n"
        }
    )
    assert named(found, "agent", "a").guarded
    assert named(found, "agent", "b").guarded


@pytest.mark.parametrize(
    ("program", "pay"),
    [
        ("import agent_identity as ai\nai.instrument()\n", None),
        (f"{OURS}.google_adk import AgentIdentityPlugin\np = AgentIdentityPlugin(ai.Enforcer.open('e'))\n", None),
        (f"{OURS} import claude_agent\nh = claude_agent.hooks(ai.Enforcer.open('e'))\n", False),
        ("from agent_identity.integrations.langchain_instrumentor import LangChainInstrumentor as L\nL()\n", False),
    ],
    ids=["instrument", "plugin", "hooks", "langchain"],
)
def test_a_guard_of_a_whole_framework_leaves_others_as_they_are(write: Write, program: str, pay: bool | None) -> None:
    """A tool of the ADK is in doubt where code guards the ADK as a whole, and unguarded where it guards another."""
    tools = "from google.adk.tools import FunctionTool\ndef pay(): ...\nt = FunctionTool(pay)\n"
    found = write({"main.py": program, "tools.py": tools})
    assert found.instrumented
    assert named(found, "tool", "pay").guarded is pay


@pytest.mark.parametrize(
    "program",
    [
        "from agent_identity.integrations import langchain_instrumentor as i\ni.LangChainInstrumentor().instrument()\n",
        "import agent_identity as ai\nai.instrument()\n",
        "from agent_identity import instrument\ninstrument()\n",
    ],
)
def test_with_instrumentation_nobody_can_tell(write: Write, program: str) -> None:
    """Where code instruments frameworks for the whole process, a scan does not say that a tool is unguarded."""
    found = write(
        {
            "main.py": program,
            "tools.py": "from langchain_core.tools import tool\n@tool\ndef pay(): ...\n",
        }
    )
    assert found.instrumented
    assert named(found, "tool", "pay").guarded is None


def test_edges_name_both_ends(write: Write) -> None:
    """Hand-offs and uses name the agents, through variables and wrappers."""
    found = write({"app.py": FRAMEWORKS["openai"][0]})
    assert {(edge.kind, edge.start, edge.end) for edge in found.edges} == {
        ("uses", "clerk", "pay"),
        ("hand-off", "boss", "clerk"),
    }


def test_notebooks_and_crews_in_yaml_are_read(write: Write) -> None:
    """Code cells of notebooks count, their commands do not; agents of CrewAI may be in YAML."""
    cells = [
        {
            "cell_type": "code",
            "source": ["%pip install x\n", "from crewai import Agent\n", "a = Agent(role='Writer')\n"],
        },
        {"cell_type": "markdown", "source": "from crewai import Agent"},
        {"cell_type": "code", "source": "%%bash\nrm -rf x"},
    ]
    found = write(
        {
            "n.ipynb": json.dumps({"cells": cells}),
            "config/agents.yaml": "editor:\n  role: >\n    Editor\n  goal: edit\n  llm: gpt-x\nother:\n"
            "  nothing: here\n",
        }
    )
    assert facts(found, "agent", "model") == {
        ("agent", "Writer", "CrewAI"),
        ("agent", "editor", "CrewAI"),
        ("model", "gpt-x", "CrewAI"),
    }


def test_the_order_of_files_does_not_matter(write: Write) -> None:
    """Two scans of the same files are equal, and a scan of a part finds that part."""
    found = write({f"{name}.py": code for name, (code, _) in FRAMEWORKS.items()})
    folder = str(Path(found.items[0].file).parent)
    assert scan([folder]) == found
    one = scan([f"{folder}/crewai.py"])
    assert set(one.items) == {item for item in found.items if item.file.endswith("crewai.py")}


def test_a_word_that_only_looks_like_a_key_keeps_its_name(write: Write) -> None:
    """Tools whose names contain such letters are two tools, one guarded and one not; a key is still masked."""
    found = write(
        {
            "app.py": (
                "from agent_identity import Enforcer\nfrom langchain.tools import tool\n"
                "enforcer = Enforcer.open('e')\n"
                "@enforcer.tool\ndef ask_for_approval(): ...\n"
                "@tool\ndef ask_for_refund_now(): ...\n"
                "@tool('sk_live_abcdefgh12345678')\ndef other(): ...\n"
            )
        }
    )
    tools = {item.name: item.guarded for item in found.items if item.kind == "tool"}
    assert tools == {"ask_for_approval": True, "ask_for_refund_now": False, "***": False}
