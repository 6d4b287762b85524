"""Checks of what the containers of the Compose stack may do, and of who reaches them."""

import json

from deploy.stack import CheckError, Stack, say


def check_the_walls(stack: Stack) -> None:
    """Check that each container has the limits of the file, and that Redis is closed to others."""
    for container in (*stack.containers("redis"), *stack.containers("api"), *stack.workers()):
        found = stack.inspect(container)["HostConfig"]
        bounds = (found["ReadonlyRootfs"], found["CapDrop"], found["SecurityOpt"], found["Memory"] > 0)
        if (
            bounds != (True, ["ALL"], ["no-new-privileges:true"], True)
            or not found["PidsLimit"]
            or not found["Ulimits"]
        ):
            raise CheckError(f"{container} is not limited: {found}")
        state = stack.docker("exec", container, "sh", "-c", "grep -E 'CapEff|NoNewPrivs|Uid' /proc/1/status")
        if not all(word in state for word in ("CapEff:\t0000000000000000", "NoNewPrivs:\t1")) or "Uid:\t0" in state:
            raise CheckError(f"{container} has rights that it does not need: {state}")
    for service, place in (("worker", "/opt/tracker/x"), ("api", "/types/x"), ("redis", "/etc/x")):
        if "Read-only file system" not in (said := stack.refused(service, "touch", place)):
            raise CheckError(f"{service} may write to {place}: {said}")
    [redis], [api] = stack.containers("redis"), stack.containers("api")
    if "NOAUTH" not in (said := stack.docker("exec", redis, "valkey-cli", "dbsize")):
        raise CheckError(f"Redis answers without a password: {said}")
    published = {redis: stack.inspect(redis), api: stack.inspect(api)}
    ports = {
        name: [bound["HostIp"] for bounds in found["NetworkSettings"]["Ports"].values() for bound in bounds or []]
        for name, found in published.items()
    }
    if ports != {redis: [], api: ["127.0.0.1"]}:
        raise CheckError(f"published: {ports}")
    networks = list(published[redis]["NetworkSettings"]["Networks"])
    if (
        len(networks) != 1
        or stack.docker("network", "inspect", "--format", "{{.Internal}}", *networks).strip() != "true"
    ):
        raise CheckError(f"Redis is not on an internal network only: {networks}")
    if any(word in json.dumps(published[api]["Config"]["Env"]) for word in ("password", "redis://", "demo:")):
        raise CheckError("the environment of the API's container has a secret")
    say("ok  no container has capabilities, writes to its files or has no limits; Redis asks for a password")


def check_the_operator(stack: Stack) -> None:
    """Check that the service for people runs `tracker doctor`, and that it finds no fault."""
    found = stack.compose("run", "--rm", "-T", "operator", "doctor")
    if "noeviction" not in found or "FAIL" in found.upper().split():
        raise CheckError(f"doctor found faults: {found}")
    stack.compose("run", "--rm", "-T", "operator", "doctor", "--verify")
    say("ok  the operator's `doctor` and `doctor --verify` find no fault")
