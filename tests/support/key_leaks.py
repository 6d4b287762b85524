"""Keys that must not be left: those that are not on the page of keys, or lack the expiry that they must have."""

import re
from typing import Any

OURS = re.compile(
    r"(\{\w+\})?tracker:("
    r"op:[0-9a-f]{32}|ids:[0-9a-f]{40}|once:[0-9a-f]{40}|call:[0-9a-f]{40}(:status:\w+|:context:[0-9a-f]{40})?"
    r"|feed:[0-9a-f]{40}|line:[0-9a-f]{40}|gate:[0-9a-f]{40}:(parked|taken|full)|lack:[0-9a-f]{40}|apart:(process|worker):[0-9a-f]{40}|history:[0-9a-f]{32}"
    r"|ticketed:(high|default|low)(:[0-9a-f]{40})?|turns:(high|default|low)|ticket:[0-9a-f]{40}|batch:[^:]+|worker:[^:]+"
    r"|tickets|tenants|suspects|leases|due|deadlines|expiries|litter|gates|lacking|apart|lone_workers|judge_after|sweeps|workers|sweeper|clock)"
)
RQS = re.compile(r"(\{\w+\})?rq:.*")
"""RQ sets the expiry of its keys; the sweeper removes what RQ leaves of our tickets."""
FINAL = {b"completed", b"failed", b"tombstone"}


def leaks(redis: Any) -> list[str]:
    """The name and the fault of each key that is not as the page of keys says."""
    found = []
    for key in (name.decode() for name in redis.scan_iter()):
        if not OURS.fullmatch(key) and not RQS.fullmatch(key):
            found.append(f"{key}: not on the page of keys")
        elif ":op:" in key and redis.hget(key, "stage") in FINAL and redis.ttl(key) == -1:
            found.append(f"{key}: final, and lives for ever")
        elif ":feed:" in key and redis.ttl(key) == -1:
            found.append(f"{key}: a feed that is kept for ever")
        elif ":once:" in key and redis.ttl(key) == -1:
            found.append(f"{key}: remembered for ever")
        elif key.endswith(":sweeper") and redis.ttl(key) == -1:
            found.append(f"{key}: a lock that never runs out")
    return found
