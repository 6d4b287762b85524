"""The tests of the API, run with the API's user of deploy/acl/users.acl and without `@dangerous`."""

from tests.integration.api.conftest import waits_of_an_hour  # noqa: F401 - a fixture of these tests
from tests.integration.api.test_actions import *  # noqa: F403 - every test of the module
from tests.integration.api.test_collection import *  # noqa: F403
from tests.integration.api.test_idempotency import *  # noqa: F403
from tests.integration.api.test_long_poll import *  # noqa: F403
from tests.integration.api.test_operations import *  # noqa: F403
from tests.integration.api.test_patch import *  # noqa: F403
from tests.integration.api.test_sse import *  # noqa: F403
from tests.integration.api.test_start_times import *  # noqa: F403

USER = "tracker-api"
