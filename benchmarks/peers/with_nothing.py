"""The bare tool against itself: what the method makes of no difference."""

from comparing import GIVEN, Peer, bare_tool, compare

tool = bare_tool()
compare(Peer(package="langchain-core", does="nothing", call=lambda: tool.invoke(GIVEN)))
