"""docker-compose.yml: what each container may do, who reaches whom, and where the secrets are."""

import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DEMO = ROOT / "deploy" / "compose" / "demo-secrets"
DEFAULT_DIR = "${TRACKER_SECRETS_DIR:-./deploy/compose/demo-secrets}/"
DEMO_TOKEN = "demo-token-for-this-machine-only"


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_right_that_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["ulimits"]["nofile"]
    assert not {"cap_add", "privileged", "network_mode", "pid", "ipc", "devices"} & service.keys()
    mounts = [str(mount) for mount in service["volumes"] if not re.match(r"\w+:/", str(mount))]
    assert all(mount.endswith(":ro") for mount in mounts), mounts


def test_only_the_api_is_published_and_on_the_loopback_address_only() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"api": ["127.0.0.1:${TRACKER_PORT:-8080}:8080"]}


def test_redis_is_on_an_internal_network_only() -> None:
    assert SERVICES["redis"]["networks"] == ["store"]
    assert COMPOSE["networks"]["store"] == {"internal": True}
    for name in ("api", "worker", "operator"):
        assert "store" in SERVICES[name]["networks"]
    shared = set(SERVICES["api"]["networks"]) & set(SERVICES["worker"]["networks"])
    assert shared == {"store"}


def test_every_secret_is_a_file_that_a_new_checkout_has() -> None:
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"{DEFAULT_DIR}{name}"}
        assert (DEMO / name).is_file()
    assert {path.name for path in DEMO.iterdir()} == COMPOSE["secrets"].keys()


def test_each_service_has_the_secrets_that_it_needs_and_no_other() -> None:
    assert {name: set(service["secrets"]) for name, service in SERVICES.items()} == {
        "redis": {"redis-api-password", "redis-worker-password", "redis-operator-password"},
        "api": {"redis-api-password", "tokens"},
        "worker": {"redis-worker-password", "url-secrets"},
        "operator": {"redis-operator-password"},
    }
    for name in ("api", "worker", "operator"):
        assert SERVICES[name]["environment"]["REDIS_USER"] == name
        assert "REDIS_URL" not in SERVICES[name]["environment"]


def test_the_demo_token_is_the_one_that_the_documents_name() -> None:
    line = (DEMO / "tokens").read_text().strip()
    assert line == f"demo:demo:{sha256(DEMO_TOKEN.encode()).hexdigest()}"
    for page in ("README.md", "docker-compose.yml", "docs/deploying.md"):
        assert DEMO_TOKEN in (ROOT / page).read_text()


def test_containers_have_time_to_stop() -> None:
    grace = {name: int(SERVICES[name]["stop_grace_period"].removesuffix("s")) for name in ("redis", "api", "worker")}
    assert grace["api"] > 20, "the API ends within 20 s"
    assert grace["worker"] > 25 + 5, "the drain and the longest grace of the built-in types"
    assert grace["redis"] > 10, "Docker's own"


def test_the_server_gets_its_settings_as_before() -> None:
    script = (ROOT / "deploy" / "compose" / "valkey.sh").read_text()
    for option in (
        "--appendonly yes",
        "--appendfsync always",
        "--maxmemory-policy noeviction",
        "--aclfile",
        "--dir /data",
    ):
        assert option in script


def test_every_user_of_the_server_that_the_stack_has_is_in_the_file_of_users() -> None:
    users = [line.split()[1] for line in (ROOT / "deploy" / "acl" / "users.acl").read_text().splitlines()]
    assert users == ["default", "tracker-api", "tracker-worker", "tracker-operator"]
    script = (ROOT / "deploy" / "compose" / "valkey.sh").read_text()
    assert re.findall(r"user (tracker-\w+) on", script) == users[1:]
