"""``agent-identity signer``: hold the keys of a directory, and sign for processes without them."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from agent_identity._directory.signer_service import SignerKeys, SignerService
from agent_identity._identity.common.clock import SystemClock
from agent_identity._identity.common.ids import RandomIds
from agent_identity._verify.report.plurals import counted
from agent_identity.cli.terminal.style import clean
from agent_identity.errors import AgentIdentityError, ConfigurationError


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    users = {os.geteuid(), *_ids(chosen.user, _user, "user")}
    groups = set(_ids(chosen.group, _group, "group"))
    if not (Path(chosen.directory) / "trust.json").exists():  # A mistyped path must not serve keys that no one trusts.
        raise ConfigurationError(
            f"{chosen.directory!r} has no trust.json, so it is not the directory of a signer; "
            "'agent-identity init DIR' creates one"
        )
    _forbid_dumps()
    keys = SignerKeys(chosen.directory, clock=SystemClock(), ids=RandomIds())
    operators, of_groups = set(_ids(chosen.operator, _user, "user")), set(_ids(chosen.operator_group, _group, "group"))
    service = SignerService(keys, chosen.socket, users, groups, _say, operators, of_groups)
    service.listen()

    def stop(_number: int, _frame: object) -> None:
        service.close()

    def load(_number: int, _frame: object) -> None:
        _load(keys)

    for number, act in ((signal.SIGTERM, stop), (signal.SIGINT, stop), (signal.SIGHUP, load)):
        signal.signal(number, act)
    try:
        served = f"{counted(len(users), 'user')} and {counted(len(groups), 'group')}"
        print(f"signing for {served} at {clean(chosen.socket)}", flush=True)
        service.serve()
    finally:
        service.close()
    return 0


def _forbid_dumps() -> None:
    """Disable core dumps, which would hold the keys."""
    import resource  # Absent on Windows, where the other commands must still work.

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _load(keys: SignerKeys) -> None:
    try:
        keys.load()
        _say("the keys were read again")
    except AgentIdentityError as error:
        _say(f"the keys stay as they were: {error}")


def _say(line: str) -> None:
    print(clean(line), file=sys.stderr, flush=True)


def _ids(names: Iterable[str], find: Callable[[str], int], what: str) -> Iterable[int]:
    for name in names:
        try:
            yield int(name) if name.isascii() and name.isdigit() else find(name)
        except KeyError:
            raise ConfigurationError(f"there is no {what} {name!r}; give the name or id of one") from None


def _user(name: str) -> int:
    import pwd

    return pwd.getpwnam(name).pw_uid


def _group(name: str) -> int:
    import grp

    return grp.getgrnam(name).gr_gid
