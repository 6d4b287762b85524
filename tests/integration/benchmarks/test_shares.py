"""The benchmark of shares: it measures a small flood, and shows a row for each tenant or a few for many."""

from benchmarks.shares import FLOOD, NEWCOMER, Share, measure, parse, table


async def test_a_small_flood_is_measured() -> None:
    found = await measure(parse(["--tenants", "3", "--flood", "400", "--each", "20", "--concurrency", "4"]))
    assert [each.tenant for each in found] == [FLOOD, "tenant 1", "tenant 2", NEWCOMER]
    assert all(each.started > 0 for each in found[:3])
    assert sum(each.share for each in found) == 1
    assert all(0 < each.first <= each.longest for each in found)


def test_many_tenants_are_shown_as_three() -> None:
    others = [Share(f"tenant {number}", number, 0.01, 0.001, 0.002, 0.003) for number in range(1, 100)]
    lines = table([Share(FLOOD, 100, 0.5, 0.001, 0.1, 2.0), *others, Share(NEWCOMER, 1, 0.01, 0.004, 0.004, 0.004)])
    assert [line.split("  ")[0] for line in lines] == [
        "tenant",
        "flood",
        "least of 99 others",
        "median of 99 others",
        "most of 99 others",
        "newcomer",
    ]
    assert lines[1].split()[1:] == ["100", "50.0%", "1", "100", "2,000"]
