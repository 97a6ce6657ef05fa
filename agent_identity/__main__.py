"""``python -m agent_identity`` is the command ``agent-identity``."""

import sys

from agent_identity.cli import main

if __name__ == "__main__":
    sys.exit(main())
