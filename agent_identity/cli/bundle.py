"""``agent-identity bundle``: everything that an auditor needs, in one file."""

import argparse
from typing import Final

from agent_identity.cli.command import Commands

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
