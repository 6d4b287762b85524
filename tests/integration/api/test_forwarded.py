"""The addresses in answers behind a proxy that writes `Forwarded` (RFC 7239)."""

from tests.support.api_client import COLLECTION, open_api
from tracker.config import Settings

PROXIED = {"Forwarded": 'for=1.2.3.4;proto=http;host=spoofed, for="[::1]:9";Proto=HTTPS;host="ops.example.org:8443"'}


async def test_a_trusted_proxy_may_speak_the_standard_forwarded(settings: Settings) -> None:
    async with open_api(settings, trusted_proxies=("127.0.0.1",)) as api:
        answer = await api.post(json={}, headers=PROXIED)
        assert answer.headers["Location"].startswith(f"https://ops.example.org:8443{COLLECTION}/")
        partial = await api.post(json={}, headers={"Forwarded": "proto=https", "Host": "own.example.org"})
        assert partial.headers["Location"].startswith(f"https://own.example.org{COLLECTION}/")
        odd = await api.post(json={}, headers={"Forwarded": 'proto=gopher;host="a b"'})
        assert odd.headers["Location"].startswith(f"{api.url}{COLLECTION}/")


async def test_a_clients_forwarded_does_not_mix_with_what_its_proxy_wrote(settings: Settings) -> None:
    async with open_api(settings, trusted_proxies=("127.0.0.1",)) as api:
        written = {"X-Forwarded-Proto": "https", "Host": "own.example.org", "Forwarded": "host=evil.example.org"}
        answer = await api.post(json={}, headers=written)
        assert answer.headers["Location"].startswith(f"https://own.example.org{COLLECTION}/")


async def test_forwarded_from_an_untrusted_address_is_ignored(settings: Settings) -> None:
    async with open_api(settings, trusted_proxies=("10.0.0.0/8",)) as api:
        answer = await api.post(json={}, headers=PROXIED)
        assert answer.headers["Location"].startswith(f"{api.url}{COLLECTION}/")
