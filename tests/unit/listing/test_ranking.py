"""The first records of an order, put in their places one by one."""

import random

from tests.support.records import make_record
from tracker.api.odata.orderby import parse_order
from tracker.domain.operation import OperationStatus
from tracker.domain.record import Record
from tracker.listing.planner import comparable, position
from tracker.listing.ranking import Ranking

ORDERS = ("id", "id desc", "clientContext", "clientContext desc,status", "status desc,clientContext", "createdDateTime")


def test_the_places_are_those_of_a_sort_of_all_records() -> None:
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for text in ORDERS:
        order = parse_order(text)
        records = [random_record(chance, number) for number in range(chance.randrange(60))]
        whole = sorted((position(order, record) for record in records), key=lambda values: comparable(order, values))
        start = chance.randrange(len(whole) + 1)
        after, most = whole[start - 1] if start else (), chance.randrange(1, 30)
        ranking = Ranking(order, after=after, moment=10**6, most=most)
        for record in records:
            ranking.add(record)
        assert [place.position for place in ranking.places] == whole[start : start + most]


def random_record(chance: random.Random, number: int) -> Record:
    return make_record(
        id=f"{number * 7919 % 100:02}",
        client_context=chance.choice([None, "", "a", "b"]),
        status=chance.choice(list(OperationStatus)),
        created=number + 1,
        changed=number + 1,
    )


def test_a_record_made_after_the_moment_of_the_list_has_no_place() -> None:
    ranking = Ranking(parse_order("clientContext"), after=(), moment=100, most=5)
    ranking.add(make_record(created=101, changed=101))
    assert not ranking.places
