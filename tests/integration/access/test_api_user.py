"""The tests of the API, run with the API's user of deploy/acl/users.acl and without `@dangerous`."""

from tests.integration.api.conftest import held, waits_of_an_hour  # noqa: F401 - fixtures of these tests
from tests.support.borrowed_tests import borrowed

USER = "tracker-api"
MODULES = ("collection", "idempotency", "long_poll", "operations", "sse")
globals().update(borrowed(*(f"tests.integration.api.test_{name}" for name in MODULES)))
