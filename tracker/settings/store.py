"""The settings of the store: where Redis is, how its keys begin, and how long it keeps operations."""

from collections.abc import Mapping
from functools import cached_property

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from tracker.durations import LONGEST
from tracker.settings.kinds import DAY, MIB, Bytes, Seconds, Words

HEAVIEST = 1000
"""The largest weight of a tenant."""
DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"


class StoreSettings(BaseSettings):
    """The settings of the store: where Redis is, how its keys begin, and how long it keeps operations."""

    redis_url: str = Field(
        DEFAULT_REDIS_URL,
        validation_alias="REDIS_URL",
        description="Address of the Redis or Valkey server: `redis://`, `rediss://`, `unix://` or `sentinel://`.",
    )
    rq_key_prefix: str = Field(
        "rq", validation_alias="RQ_KEY_PREFIX", description="Prefix of RQ's keys. RQ reads the same variable."
    )
    hash_tag: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_-]{0,32}$",
        description="Redis Cluster hash tag of every key, also of RQ's keys. With a tag, all keys are in one slot.",
    )

    tenant_weights: Words = Field(
        (),
        description="Weights of tenants, each as `tenant=weight`, from 1 to 1000. While two tenants have queued"
        " operations, a tenant with weight 3 starts three times as many as one with weight 1, which is the default.",
    )
    retention: Seconds = Field(
        7 * DAY, gt=0, le=LONGEST, description="The time for which an operation can be read after it has ended."
    )
    tombstone: Seconds = Field(
        7 * DAY,
        ge=0,
        le=LONGEST,
        description="The time for which the id of an operation answers 410 after the operation is deleted or its"
        " retention has ended.",
    )
    idempotency: Seconds = Field(
        DAY,
        ge=60,
        le=LONGEST,
        description="The shortest time for which a create's `Idempotency-Key`, `Repeatability-Request-ID` or"
        " `Operation-Id` is remembered.",
    )

    feed_bytes: Bytes = Field(
        40 * MIB,
        ge=1 * MIB,
        description="How many bytes of events Redis keeps for one tenant, for streams that resume. API and workers need"
        " the same value.",
    )

    @cached_property
    def weights_of_tenants(self) -> Mapping[str, int]:
        """The weights of tenants that are not 1."""
        pairs = (word.rpartition("=") for word in self.tenant_weights)
        return {tenant: int(weight) for tenant, _, weight in pairs if int(weight) != 1}

    @field_validator("tenant_weights")
    @classmethod
    def _are_weights(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            tenant, _, weight = word.rpartition("=")
            if not tenant or not weight.isdecimal() or not 1 <= int(weight) <= HEAVIEST:
                raise ValueError(f"'{word}' is not of the form tenant=weight with a weight from 1 to {HEAVIEST}")
        return value

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://", "sentinel://")):
            raise ValueError("must start with redis://, rediss://, unix:// or sentinel://")
        return value
