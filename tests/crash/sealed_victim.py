"""A process that seals some records, writes more, and then waits to be killed; run by ``test_sealing.py``."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from plain_records import append

from agent_identity._directory.open import prepare
from agent_identity.identity import RandomIds, SystemClock
from agent_identity.options import Ledger

CHANGE = {"kind": "agent", "name": "intern", "status": "revoked", "version": "1"}


def say(word: str) -> None:
    """Tell the test."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main(root: str, sealed: int, more: int) -> None:
    """Write the records, say so, and append another one for each line of standard input."""
    clock, ids = SystemClock(), RandomIds()
    _, recorder, trust = prepare(root, clock, ids)
    ledger = Ledger.open(root, signer=recorder, origin=trust.origin or "", clock=clock, ids=ids, seal_interval=3_600)
    for _ in range(sealed):
        append(ledger, "revocation", {"revocation": CHANGE})
    ledger.seal()
    for _ in range(more):
        append(ledger, "revocation", {"revocation": CHANGE})
    say(ledger.stream)
    for _ in sys.stdin:
        append(ledger, "revocation", {"revocation": CHANGE})
        say("appended")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
