"""Entry point of ``python -m agent_identity``, the command ``agent-identity``."""

import sys

from agent_identity.cli import main

if __name__ == "__main__":
    sys.exit(main())
