"""The room of answers: how many bytes one answer may have, and how many all have together."""

from tests.support.records import make_record
from tracker.api.answers import PART, BatchRoom, JsonItems, Room
from tracker.api.serializers import resource
from tracker.runtime.shares import Shares, Tenants


def shares(total: int) -> Shares:
    return Shares(total, Tenants())


def room_in(account: Shares, most: int) -> Room:
    assert account.take("test", PART)
    return Room(account, "test", most=most, held=PART)


def test_an_answer_is_as_large_as_it_may_be_and_no_more_than_one_item_larger() -> None:
    account = shares(100 * PART)
    room = room_in(account, 3 * PART)
    taken = 0
    while room.add(1000):
        taken += 1000
    assert 3 * PART - 1000 <= taken < 3 * PART
    assert account.held >= taken
    room.release()
    assert account.held == 0


def test_an_answer_ends_early_when_the_process_has_no_room_left() -> None:
    account = shares(4 * PART)
    room, other = room_in(account, 100 * PART), room_in(account, 100 * PART)
    while room.add(PART // 2):
        pass
    assert not other.add(PART + 1)
    assert account.held <= 4 * PART + PART // 2 + 1
    room.release()
    assert other.add(1)
    other.release()
    assert account.held == 0


def test_an_answer_that_grows_no_more_gives_back_what_it_has_not_used() -> None:
    account = shares(10 * PART)
    room = room_in(account, 5 * PART)
    assert room.add(10)
    room.trim()
    assert account.held == 10
    room.release()
    assert account.held == 0


def test_the_requests_of_a_batch_have_equal_parts_and_use_what_others_leave() -> None:
    account = shares(100 * PART)
    batch = BatchRoom(room_in(account, 8 * PART), 4)
    small, large = batch.part(), batch.part()
    assert small.add(10)
    small.close(10)
    taken = 0
    while large.add(1000):
        taken += 1000
    assert 4 * PART - 3000 < taken < 4 * PART


def test_a_part_counts_what_an_answer_has_beside_its_items() -> None:
    account = shares(100 * PART)
    room = room_in(account, 8 * PART)
    part = BatchRoom(room, 4).part()
    part.add(100)
    part.close(300)
    assert room.left == 8 * PART - 300


def test_items_are_encoded_one_by_one_until_there_is_no_room() -> None:
    account = shares(100 * PART)
    items = JsonItems(room_in(account, 2 * PART), resource)
    record = make_record(members={"large": "x" * 10_000}, created=1, changed=1)
    number = 1
    while items.take(record):
        number += 1
    assert number == len(items.items) == 13, "as many as fill 128 KiB, each with 10,000 bytes and the other members"
