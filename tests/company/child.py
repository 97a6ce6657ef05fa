"""A process of support that works, or dies in the middle of a call: ``child.py ROOT START_NS exit|kill|work TOLD``.

It writes what happens into TOLD before it ends.
"""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from company import world
from company.organization import Place
from company.truth import Truth
from company.world import PLACES

from agent_identity.testing import FixedClock, SequentialIds


async def main() -> None:
    """Work, and die."""
    root, start, how, told = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    truth = Truth()
    place = Place(PLACES["support"], root / "support", FixedClock(start), SequentialIds(), truth)
    with contextlib.ExitStack() as stack:
        place.open(stack)
        stack.enter_context(place.task("work elsewhere", world.DAVE, world.WORKER, world.SUPPORT_SCOPE))
        await place.do("read_customer", name="lee")
        await place.do("read_customer", name="max")

        def die() -> None:
            truth.keep(told)
            if how == "exit":
                os._exit(9)
            os.kill(os.getpid(), signal.SIGKILL)

        if how == "work":
            await place.do("read_customer", name="eva")
            stack.close()
            truth.keep(told)
            return
        place.on_body = die
        await place.do("read_customer", name="ida", will={"outcome": "unknown"})


if __name__ == "__main__":
    asyncio.run(main())
