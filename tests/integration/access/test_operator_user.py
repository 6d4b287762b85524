"""The tests of `tracker doctor --verify`, run with the operator's user of deploy/acl/users.acl and no `@dangerous`."""

from tests.support.borrowed_tests import borrowed

USER = "tracker-operator"
globals().update(borrowed("tests.integration.maintenance.test_verifier"))
