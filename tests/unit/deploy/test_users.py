"""deploy/acl/users.acl: the users may do what the scripts need, and nothing that the tracker never does."""

import re
from pathlib import Path

import pytest

from tracker.store.lua_modules import compose

ROOT = Path(__file__).parents[3]
LINES = (ROOT / "deploy" / "acl" / "users.acl").read_text().splitlines()
RULES = {line.split()[1]: line.split()[2:] for line in LINES}
SWEEPER = ("change", "find_overdue", "expire")
SCRIPTS = {
    "tracker-api": (*SWEEPER, "create", "read_by_public_id", "read_page"),
    "tracker-worker": (*SWEEPER, "claim", "beat"),
    "tracker-operator": ("repair", "find_stray_members", "read_memberships"),
}
GROUPED = {"zrem", "srem", "sadd", "zadd"}
"""Commands that grouped_writes.lua calls by a variable."""
NEVER = {
    *("keys", "flushall", "flushdb", "config|set", "eval", "debug", "shutdown", "replicaof", "acl", "module", "save"),
    *("migrate", "restore", "dump", "sort", "monitor", "swapdb", "rename", "function", "script|flush", "client|kill"),
}


def commands(user: str) -> set[str]:
    return {rule[1:] for rule in RULES[user] if rule.startswith("+")}


@pytest.mark.parametrize("user", SCRIPTS)
def test_a_user_may_use_every_command_of_the_scripts_that_it_runs(user: str) -> None:
    for script in SCRIPTS[user]:
        text = compose(script).text
        used = {name.lower() for name in re.findall(r"p?call\(\s*'([A-Z]+)'", text)}
        used |= GROUPED if "write_groups" in text else set()
        assert not used - commands(user), script


@pytest.mark.parametrize("user", SCRIPTS)
def test_a_user_has_no_category_and_no_command_that_the_tracker_never_uses(user: str) -> None:
    assert "-@all" in RULES[user]
    assert not [rule for rule in RULES[user] if rule.startswith("+@")]
    assert not commands(user) & NEVER
    assert len(commands(user)) == len([rule for rule in RULES[user] if rule.startswith("+")]), "twice"


@pytest.mark.parametrize("user", SCRIPTS)
def test_a_user_has_no_password_until_somebody_gives_it_one(user: str) -> None:
    assert RULES[user][0] == "on"
    assert "nopass" not in RULES[user]
    assert not [rule for rule in RULES[user] if rule.startswith((">", "#"))]


@pytest.mark.parametrize("user", SCRIPTS)
def test_a_user_has_the_keys_and_channels_of_the_tracker_and_of_rq_only(user: str) -> None:
    patterns = [rule[1:] for rule in RULES[user] if rule.startswith(("~", "&"))]
    assert patterns
    assert all(pattern.startswith(("tracker:", "rq:")) for pattern in patterns)


def test_the_default_user_is_off_and_the_api_does_not_command_workers_of_rq() -> None:
    assert RULES["default"] == ["off"]
    assert "&rq:pubsub:*" not in RULES["tracker-api"]
    assert "~rq:*" not in RULES["tracker-api"]
