"""Shares of tenants in a claim: their weights, and how many operations of one tenant a worker runs at most."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from tracker.store.keys import owner_digest


@dataclass(frozen=True, slots=True)
class ClaimShares:
    """The shares of tenants in one claim.

    `weights` has the weights of tenants that are not 1. `most` says for each kind of room how many operations of one
    tenant the worker runs at most, and `held` how many of each tenant it runs now. Without `most` no tenant is bounded.
    """

    weights: Mapping[str, int] = field(default_factory=dict)
    most: Mapping[str, int] | None = None
    held: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def encoded(self) -> str:
        """The argument of `claim.lua`: JSON with the tenants' digests, or empty when all tenants are treated alike."""
        if not self.weights and self.most is None:
            return ""
        weights = {owner_digest(tenant): weight for tenant, weight in self.weights.items()}
        if self.most is None:
            return json.dumps({"weights": weights})
        held = {owner_digest(tenant): dict(counts) for tenant, counts in self.held.items()}
        return json.dumps({"weights": weights, "most": dict(self.most), "held": held})
