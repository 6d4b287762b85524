"""Shares of tenants in a claim, as the script gets them."""

import json

from tracker.store.claim_shares import ClaimShares
from tracker.store.keys import owner_digest


def test_while_all_tenants_are_alike_the_script_gets_nothing() -> None:
    assert ClaimShares().encoded() == ""
    assert ClaimShares({}, None, {"a": {"coroutines": 1}}).encoded() == ""


def test_the_script_gets_digests_and_no_names() -> None:
    text = ClaimShares({"a": 3}, {"coroutines": 9}, {"b": {"coroutines": 2}}).encoded()
    assert json.loads(text) == {
        "weights": {owner_digest("a"): 3},
        "most": {"coroutines": 9},
        "held": {owner_digest("b"): {"coroutines": 2}},
    }
    assert json.loads(ClaimShares({"a": 3}).encoded()) == {"weights": {owner_digest("a"): 3}}
