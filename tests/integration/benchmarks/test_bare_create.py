"""The bare create of the API benchmark writes what our create writes, so that they can be compared."""

from benchmarks.api_bare import offered, opened


async def test_the_bare_create_writes_what_ours_does() -> None:
    async with opened("always") as (servers, rows):
        of = {row.name: row for row in rows}
        for row in ("bare read", "read one", "304", "bare list", "list of 100", "bare create", "create"):
            assert await offered(servers, of[row]) == ""
        ours, bare = await servers.written(of["create"]), await servers.written(of["bare create"])
    assert ours.commands
    assert ours.alike(bare), (ours, bare)
