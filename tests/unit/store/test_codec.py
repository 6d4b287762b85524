"""Keys of new operations."""

from uuid import RFC_4122, UUID

from tracker.store.codec import as_uuid, new_key


def test_keys_are_random_uuids() -> None:
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000
    for key in keys:
        uuid = UUID(as_uuid(key))
        assert (uuid.version, uuid.variant, uuid.hex) == (4, RFC_4122, key)
