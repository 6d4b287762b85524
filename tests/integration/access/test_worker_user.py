"""The tests of attempts and of RQ's tools, run with the workers' user of deploy/acl/users.acl, without `@dangerous`."""

from tests.contract.test_rq_job_class import test_operations_complete_under_each_of_rqs_workers  # noqa: F401
from tests.support.borrowed_tests import borrowed

USER = "tracker-worker"
globals().update(borrowed("tests.contract.test_rq_worker", "tests.integration.workers.test_attempts"))
