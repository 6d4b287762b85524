"""Values of REDIS_URL."""

from pathlib import Path

import pytest

from tracker.config import Settings, load
from tracker.errors import ConfigurationError
from tracker.store.connection import open_blocking, open_redis

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://one:1",
        "sentinel://one:1/",
        "sentinel:///contoso",
        "sentinel://one:port/contoso",
        "sentinel://one:99999999/contoso",
        "sentinel://one:1,/contoso",
        "sentinel://one:1/contoso/zero",
        "sentinel://one:1/contoso?db=1",
        "sentinel://:secret@one:1",
    ],
)
def test_a_sentinel_url_that_is_none_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    for opened in (open_redis, open_blocking):
        with pytest.raises(ConfigurationError, match="REDIS_URL") as raised:
            opened(load())
        assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("sentinel://me:secret@one:1,[::1]:2/contoso/3", "sentinel://one:1,[::1]:2/contoso/3"),
        ("redis://me:s@cret@one:1/0?db=2", "redis://one:1/0"),
        ("redis://one:1/0", "redis://one:1/0"),
        ("unix://:secret@/run/a@b.sock?db=1", "unix:///run/a@b.sock"),
    ],
)
def test_logs_show_an_address_without_its_password(url: str, address: str) -> None:
    settings = Settings.model_construct(redis_url=url)
    assert settings.redis_address == address
    open_redis(settings)
    open_blocking(settings)


@pytest.mark.parametrize("url", ["redis://h:port/0", "redis://h:99999999/0", "http://h"])
def test_a_redis_url_that_is_none_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(ConfigurationError, match="REDIS_URL"):
        open_redis(load())
