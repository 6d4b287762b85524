"""The Redis schema, on one page.

`<p>` is `tracker`, or `{tag}tracker` when the setting `hash_tag` is set; `<r>` is RQ's own prefix, `rq`. A key's name
holds our words and hexadecimal digests only, never a user's text: a tenant, a call, a client context and an
idempotency key appear by digest, an operation by its internal key (32 hex digits).

key                            type    content                                  lifetime               written by
<p>:op:<key>                   HASH    the record                               open: none; final:     create, claim,
                                                                                until its tombstone    change, expire
                                                                                ends, + 1 day at most
<p>:history:<key>              LIST    ended attempts, JSON, the last 10        as its record          change
<p>:ids:<tenant>               HASH    public id → key                          field until forgotten  create, expire
<p>:once:<request>             STRING  idempotency key: the operation that the  as set, + 5 min        create
                                       request made, and its fingerprint
<p>:call:<call>                ZSET    key → order of creation (µs)             member until hidden    create, move
                                                                                or expired
<p>:call:<call>:status:<S>     ZSET    the same, for one public status          as the row above       create, move
<p>:call:<call>:context:<c>    ZSET    the same, for one clientContext          as the row above       create, move
<p>:line:<call>                ZSET    serial queue: key → position             member until final     move
<p>:gate:<type>:parked         ZSET    limiter: parked key → order of creation  member while parked    claim, move
<p>:gate:<type>:taken          ZSET    limiter: key → since when it runs, or 0  while it runs or is    claim, move
                                       for one that is admitted and waits       admitted
<p>:gate:<type>:full           STRING  limiter: when its bucket is full again   until then             claim, move
<p>:gates                      ZSET    limiter's type → when to look at it      while any is parked    claim, move
                                       again
<p>:lack:<type>                ZSET    key → order of creation; parked because  member while parked    claim, move
                                       no worker has the type
<p>:lacking                    ZSET    type → since when any waits for a        while any is parked    claim, sweeper
                                       worker, or when one was last queued
<p>:apart:process:<type>       ZSET    key → order of creation; parked because  member while parked    claim, move
                                       no worker had room for a process
<p>:apart:worker:<type>        ZSET    the same; parked until a worker runs     member while parked    claim, move
                                       nothing else
<p>:apart                      ZSET    `process <type>` or `worker <type>` →    while any is parked    claim, sweeper
                                       as in <p>:lacking
<p>:lone_workers               HASH    worker that waits to be idle, or runs    1 day after the last   claim
                                       an operation alone → since or until      change
<p>:tickets                    STRING  number of the last ticket pushed         no end (one key)       create, move
<p>:ticket:<fields>            HASH    fields of RQ's hash of every ticket      no end (one key of     create, move
                                                                                each form)
<p>:ticketed:<lane>:<tenant>   ZSET    queued key → its ticket's number         member while queued    move, sweeper
<p>:ticketed:<lane>            ZSET    the same for all tenants, as versions    until a claim or the   move of
                                       up to 2 write it                         sweeper moves them     versions up to 2
<p>:turns:<lane>               ZSET    tenant with tickets → when its turn is:  until it has none      move, claim,
                                       the lowest first; not above 0: is new                           sweeper
<p>:tenants                    ZSET    tenant → when it last had tickets or     7 days after that      move, sweeper,
                                       was in the tokens of an API process                             API
<p>:suspects                   ZSET    queued key → when its ticket was found   member while queued    sweeper, move
                                       missing
<p>:leases                     ZSET    running key → when its lease runs out    member while running   move, beat
<p>:due                        ZSET    delayed key → when it is due             member while delayed   move
<p>:deadlines                  ZSET    key → when it must have started          until it has           create, move
<p>:expiries                   ZSET    final key → when the sweeper expires it  member until expired   move, expire
<p>:litter                     ZSET    RQ job id of ours left behind → when to  member until removed   move, sweeper
                                       remove what RQ keeps of it
<p>:judge_after                STRING  when leases are judged again after a      no end (one key)       sweeper
                                       jump of the server's clock, and the sum
                                       of all jumps
<p>:sweeps                     STRING  in how many seconds there was a sweep,   no end (one key)       sweeper
                                       and the last of them
<p>:batch:<worker>             STRING  what the worker's latest claim claimed   10 min                 claim
<p>:worker:<worker>            STRING  what the worker is: types, room, host    60 s                   worker
<p>:workers                    ZSET    worker → when it last reported           10 min after the last  worker
<p>:sweeper                    STRING  token of the process that sweeps         5 s                    sweeper (lock)
<p>:events                     PUBSUB  events of a tenant's operations that     -                      all that write
                                       one script has changed: see feed.py
<p>:feed:<tenant>              STREAM  the same messages; the last 5,000, or a  1 day after the last,  all that write
                                       few more, of 100 events at most each     or ½ at least
<p>:wake                       PUBSUB  a lane that is no longer empty           -                      move
<p>:control:<worker>           PUBSUB  `cancel key attempt`                     -                      change
<p>:clock                      STRING  µs added to the time, in test mode only  ever (tests)           tests
<r>:queues, <r>:queue:<q>, <r>:job:<key>-<ticket>: RQ's, written as RQ writes them (see rq_tickets.py). What
OperationWorker claims it also shows in <r>:execution:*, <r>:executions:*, <r>:wip:<q>, <r>:worker:<worker>*.
`move` stands for every script that changes a stage: create, claim, change, expire, find_overdue. `sweeper` stands for
find_overdue, and for what the sweeper does without a script.
"""

from functools import lru_cache
from hashlib import sha1

_cached = lru_cache(maxsize=4096)
"""Caches digests that each operation needs several times: 2 % of the instructions of benchmarks.api: create."""
QUEUES = {"high": "operations.high", "default": "operations", "low": "operations.low"}
"""RQ's queue of each lane, in order of priority."""


class Keys:
    """The names of all keys of this service, and of three kinds of RQ's keys."""

    def __init__(self, prefix: str = "tracker", rq_prefix: str = "rq") -> None:
        self.prefix = prefix
        self.rq_prefix = rq_prefix
        self.tickets = f"{prefix}:tickets"
        self.known_tenants = f"{prefix}:tenants"
        self.suspects = f"{prefix}:suspects"
        self.leases = f"{prefix}:leases"
        self.due = f"{prefix}:due"
        self.deadlines = f"{prefix}:deadlines"
        self.limiters = f"{prefix}:gates"
        self.unserved_types = f"{prefix}:lacking"
        self.apart_types = f"{prefix}:apart"
        self.lone_workers = f"{prefix}:lone_workers"
        self.workers = f"{prefix}:workers"
        self.wake = f"{prefix}:wake"
        self.expiries = f"{prefix}:expiries"
        self.sweeps = f"{prefix}:sweeps"
        self.judge_after = f"{prefix}:judge_after"
        self.litter = f"{prefix}:litter"
        self.sweeper = f"{prefix}:sweeper"
        self.events = f"{prefix}:events"
        self.clock = f"{prefix}:clock"
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

    def feed(self, tenant: str) -> str:
        """The latest events of a tenant's operations."""
        return f"{self.prefix}:feed:{owner_digest(tenant)}"

    def history(self, key: str) -> str:
        """The ended attempts of an operation."""
        return f"{self.prefix}:history:{key}"

    def worker(self, name: str) -> str:
        """The report of a worker about itself."""
        return f"{self.prefix}:worker:{name}"

    def control(self, worker: str) -> str:
        """The channel by which a worker learns of cancels."""
        return f"{self.prefix}:control:{worker}"

    def ticket(self, fields: str) -> str:
        """The hash that RQ's hashes of tickets are copied from. `fields` is the digest of its fields."""
        return f"{self.prefix}:ticket:{fields}"

    def ticketed(self, lane: str, tenant: str) -> str:
        """The queued operations of a tenant in a lane."""
        return self.ticketed_by(owner_digest(tenant), lane)

    def ticketed_by(self, owner: str, lane: str) -> str:
        """The queued operations in a lane of the tenant with this digest. Without a digest: the names' beginning."""
        return f"{self.ticketed_by_all(lane)}:{owner}"

    def ticketed_by_all(self, lane: str) -> str:
        """The queued operations of a lane that an earlier version has queued, of all tenants."""
        return f"{self.prefix}:ticketed:{lane}"

    def turns(self, lane: str) -> str:
        """The tenants that have tickets in a lane, in the order of their turns."""
        return f"{self.prefix}:turns:{lane}"

    def queue(self, lane: str = "default") -> str:
        """The RQ queue of a lane."""
        return f"{self.rq_prefix}:queue:{QUEUES[lane]}"

    def serial_queue(self, tenant: str, call_id: str) -> str:
        """The serial operations of a call, in their order."""
        return f"{self.prefix}:line:{call_digest(tenant, call_id)}"

    def limiter(self, type_name: str, part: str) -> str:
        """A type's limiter: its `parked` operations, the slots that are `taken`, or when its bucket is `full`."""
        return f"{self.prefix}:gate:{type_digest(type_name)}:{part}"

    def unserved(self, type_name: str) -> str:
        """The operations that wait for a worker with the type."""
        return f"{self.prefix}:lack:{type_digest(type_name)}"

    def apart(self, need: str, type_name: str) -> str:
        """The operations of a type that wait to run apart. `need`: `process`, or `worker` for a worker of its own."""
        return f"{self.prefix}:apart:{need}:{type_digest(type_name)}"

    def job(self, job_id: str) -> str:
        """RQ's hash of a job."""
        return f"{self.rq_prefix}:job:{job_id}"


@_cached
def owner_digest(tenant: str) -> str:
    """A tenant's name in keys."""
    return _digest(tenant)


@_cached
def call_digest(tenant: str, call_id: str) -> str:
    """A call's name in keys. Calls of two tenants never share a name, because neither text has a line end."""
    return _digest(f"{tenant}\n{call_id}")


def context_digest(client_context: str | None) -> str:
    """A client context's name in keys; empty when there is none."""
    return "" if client_context is None else _digest(client_context)


@_cached
def type_digest(type_name: str) -> str:
    """A type's name in keys. Names that differ only in case or in a leading `#` are the same type."""
    return _digest(type_name.removeprefix("#").lower())


def once_digest(tenant: str, name: str) -> str:
    """The name of a tenant's idempotency key in keys. Two tenants never share a name."""
    return _digest(f"{tenant}\n{name}")


def _digest(text: str) -> str:
    """The digest is SHA-1, because scripts can compute no other. Two texts with one digest would harm nobody else."""
    return sha1(text.encode(), usedforsecurity=False).hexdigest()
