"""The command ``agent-identity``."""

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; see :func:`agent_identity.cli.program.main`."""
    try:
        from agent_identity.cli import program  # Ctrl-C may come while it is imported.

        return program.main(arguments)
    except KeyboardInterrupt:
        return 130
