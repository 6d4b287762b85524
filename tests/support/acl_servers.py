"""A server with the users of deploy/acl/users.acl, and what it has refused to them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from redis import Redis as BlockingRedis
from redis.exceptions import RedisError

from tests.support.processes import ROOT
from tests.support.waiting import LONGEST_WAIT
from tracker.runtime.dev_valkey import PrivateServer, until
from tracker.runtime.processes import die_with_parent

USERS = ROOT / "deploy" / "acl" / "users.acl"
PASSWORD = "password-of-tests"  # the server is private
ADMIN = "test"


def users(*, dangerous: bool) -> str:
    """The file as an operator completes it: with passwords, and perhaps without the category `@dangerous`."""
    lines = []
    for line in USERS.read_text().splitlines():
        name = line.split()[1]
        with_password = line.replace(" on ", f" on >{PASSWORD} ", 1)
        lines.append(line if name == "default" else with_password + ("" if dangerous else " -@dangerous"))
    return "\n".join([*lines, f"user {ADMIN} on >{PASSWORD} ~* &* +@all", ""])


class AclServer:
    """A running server whose connections need a user."""

    def __init__(self, server: PrivateServer) -> None:
        self._server = server

    def url(self, user: str, password: str = PASSWORD) -> str:
        """The REDIS_URL of a user."""
        return f"unix://{user}:{password}@{quote(str(self._server.socket))}"

    def answers(self) -> bool:
        """Whether the server answers the user of the tests."""
        try:
            with self.admin() as redis:
                return bool(redis.ping())
        except (RedisError, OSError):
            return False

    def admin(self) -> Any:
        """A connection that may do everything."""
        return BlockingRedis.from_url(self.url(ADMIN))

    def refused(self) -> set[tuple[str, str, str]]:
        """What the server has refused since it was last asked: user, kind, and the command, key or channel."""
        with self.admin() as redis:
            entries = redis.acl_log()
            redis.acl_log_reset()
        return {(_text(entry["username"]), _text(entry["reason"]), _text(entry["object"])) for entry in entries}


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()


@contextmanager
def acl_server(directory: Path, *, dangerous: bool) -> Iterator[AclServer]:
    """Run a server with the shipped users."""
    private = PrivateServer(directory)
    private.prepare()
    file = directory / "users.acl"
    file.write_text(users(dangerous=dangerous))
    with (directory / "valkey.log").open("ab") as log:
        process = subprocess.Popen(
            [*private.argv(), "--aclfile", str(file)],
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, parent=os.getpid()),  # noqa: PLW1509 - one prctl call, no locks
        )
    server = AclServer(private)
    try:
        assert until(lambda: server.answers() or process.poll() is not None, LONGEST_WAIT)
        assert process.poll() is None, (directory / "valkey.log").read_text()
        yield server
    finally:
        process.terminate()
        process.wait()
