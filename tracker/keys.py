"""The Redis schema, on one page.

`<p>` is `tracker`, or `{tag}tracker` when one hash tag is asked for; `<r>` is RQ's own prefix, `rq`. A key's name
holds our words and hexadecimal digests only, never a user's text: a tenant, a call and a client context appear by
digest, an operation by its internal key (32 hex digits).

key                            type    content                                  lifetime               written by
<p>:op:<key>                   HASH    the record                               open: none; final:     create, claim,
                                                                                until its tombstone    change, expire
                                                                                ends, + 1 day at most
<p>:ids:<tenant>               HASH    public id → key                          field until forgotten  create, expire
<p>:call:<call>                ZSET    key → order of creation (µs)             member until hidden    create, change,
                                                                                or expired             expire
<p>:call:<call>:status:<S>     ZSET    the same, of one public status           alike                  the same, claim
<p>:call:<call>:context:<c>    ZSET    the same, of one clientContext           alike                  create, change,
                                                                                                       expire
<p>:tickets                    STRING  number of the last ticket pushed         ever (one key)         create, change
<p>:ticketed                   ZSET    queued key → its ticket's number         member while queued    create, change,
                                                                                                       claim, overdue
<p>:suspects                   ZSET    queued key → when its ticket was missed  member while queued    overdue, claim,
                                                                                                       change
<p>:leases                     ZSET    running key → when its lease runs out    member while running   claim, beat,
                                                                                                       change
<p>:due                        ZSET    delayed key → when it is due             member while delayed   change
<p>:expiries                   ZSET    final key → when the sweeper ends it     member until ended     change, expire
<p>:litter                     ZSET    RQ job id of ours left behind → when to  member until removed   change, sweeper
                                       remove what RQ keeps of it
<p>:sweeper                    STRING  token of the process that sweeps         5 s                    sweeper (lock)
<p>:events                     PUBSUB  `key revision stage status`              -                      all that write
<p>:clock                      STRING  µs added to the time, in test mode only  ever (tests)           tests
<r>:queues, <r>:queue:<q>, <r>:job:<key>-<ticket>: RQ's, written as RQ writes them (see queue.py)
"""

from hashlib import sha256


class Keys:
    """Every key this service owns, and the three kinds of RQ's that it writes."""

    def __init__(self, prefix: str = "tracker", rq_prefix: str = "rq", queue: str = "operations") -> None:
        self.prefix = prefix
        self.rq_prefix = rq_prefix
        self.queue_name = queue
        self.tickets = f"{prefix}:tickets"
        self.ticketed = f"{prefix}:ticketed"
        self.suspects = f"{prefix}:suspects"
        self.leases = f"{prefix}:leases"
        self.due = f"{prefix}:due"
        self.expiries = f"{prefix}:expiries"
        self.litter = f"{prefix}:litter"
        self.sweeper = f"{prefix}:sweeper"
        self.events = f"{prefix}:events"
        self.clock = f"{prefix}:clock"
        self.queue = f"{rq_prefix}:queue:{queue}"
        self.queues = f"{rq_prefix}:queues"

    def operation(self, key: str) -> str:
        """The record of an operation, by its internal key."""
        return f"{self.prefix}:op:{key}"

    def ids(self, tenant: str) -> str:
        """A tenant's public ids."""
        return f"{self.prefix}:ids:{owner_digest(tenant)}"

    def call(self, tenant: str, call_id: str) -> str:
        """The operations of one call, in order of creation."""
        return f"{self.prefix}:call:{call_digest(tenant, call_id)}"

    def status(self, tenant: str, call_id: str, status: str) -> str:
        """The call's operations of one public status."""
        return f"{self.call(tenant, call_id)}:status:{status}"

    def context(self, tenant: str, call_id: str, client_context: str) -> str:
        """The call's operations of one client context."""
        return f"{self.call(tenant, call_id)}:context:{context_digest(client_context)}"

    def job(self, job_id: str) -> str:
        """RQ's hash of a job."""
        return f"{self.rq_prefix}:job:{job_id}"


def owner_digest(tenant: str) -> str:
    """A tenant's name in keys."""
    return _digest(tenant)


def call_digest(tenant: str, call_id: str) -> str:
    """A call's name in keys; calls of two tenants never share one."""
    return _digest(tenant, call_id)


def context_digest(client_context: str | None) -> str:
    """A client context's name in keys; empty when there is none."""
    return "" if client_context is None else _digest(client_context)


def _digest(*texts: str) -> str:
    framed = b"".join(len(data).to_bytes(4) + data for data in (text.encode() for text in texts))
    return sha256(framed).hexdigest()[:32]
