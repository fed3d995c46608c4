"""A team under a few faults: nothing is lost and one leads; `python -m benchmarks.team` makes many and takes times."""

import tempfile
from pathlib import Path

import pytest

from benchmarks.team import leaders_at_once, measure
from tests.fault.team import Call, why_no_team  # first: it scrubs the environment before Prefect is imported


@pytest.mark.server
@pytest.mark.worker
@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(why_no_team() is not None, reason=str(why_no_team()))
def test_nothing_is_lost_and_one_leads_whatever_is_killed_cut_or_locked():
    kinds = [
        "leader killed in a pass",
        "API server killed",
        "Redis restarted",
        "PostgreSQL restarted",
        "clients cut",
        "leader frozen in a pass",
        "database locked",
    ]
    with tempfile.TemporaryDirectory() as folder:  # PostgreSQL may run as another user, who cannot enter pytest's
        found = measure(kinds, Path(folder), interval_s=4.0, lock_s=6.0)
    figures = found["figures"]
    assert figures["faults"] == len(kinds)
    assert figures["leases_taken"] >= 3
    assert figures["settings_written"] > 3
    assert (figures["settings_lost"], figures["records_lost"]) == (0, 0), found
    assert figures["leaders_at_once_max"] == 1


def test_who_writes_after_another_has_taken_the_lease_leads_beside_it():
    def call(member, method="PATCH", route="/api/work_queues/1", status=200):
        return Call(member, method, route, 0.0, status)

    def takes(member, status=200):
        return call(member, "POST", "/api/v2/concurrency_limits/increment", status)

    taken_over = [takes("one"), call("one"), call("one"), takes("two"), call("two")]
    members = {"one", "two"}
    assert leaders_at_once(taken_over, members) == 1
    assert leaders_at_once([*taken_over, takes("one", 423), call("operator")], members) == 1
    assert leaders_at_once([*taken_over, call("one")], members) == 2
