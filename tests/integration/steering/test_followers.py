"""A run that others wait for is as urgent as they are, on a real server."""

import math
import time
import uuid

import pytest

from prefect_intelligent.domain import Terms, parse_deadline
from prefect_intelligent.policy.census import P, Q, take_census
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.terms import publish_terms
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator

pytestmark = pytest.mark.server


def test_an_upstream_inherits_deadline_and_price_of_what_reads_its_output(prefect_api, api):
    pool, mark = api.pool(), uuid.uuid4().hex[:6]
    extract = api.deployment(pool, flow=f"extract-{mark}")
    report = api.deployment(pool, flow=f"report-{mark}")
    client = PrefectApi(timeout_s=30.0)
    publish_terms(client, f"extract-{mark}", Terms(outputs=(f"raw-{mark}",), late_usd_per_hour=1.0, expected_s=120.0))
    due = parse_deadline("07:00 UTC")
    wanted = Terms(inputs=(f"raw-{mark}",), deadline=due, late_usd_per_hour=30.0, expected_s=600.0)
    publish_terms(client, f"report-{mark}", wanted)
    run = api.run(extract, at_s=time.time() - 5.0)

    snapshot = PrefectOrchestrator(client, pool).observe()
    (follower,) = snapshot.followers
    assert (follower.run.deployment, follower.after) == (f"report-{mark}/d", (run,))
    census = take_census(snapshot)
    waiting = snapshot.queues[0].waiting[0]
    assert waiting.due_s is None
    assert census.queues[0, Q.URGENT_SLACK_S] == pytest.approx(due.due_s(waiting.scheduled_s) - snapshot.at_s - 720.0)
    assert census.queues[0, Q.URGENT_USD_PER_HOUR] == 31.0
    assert census.pool[P.FOLLOWING_WORK_S] == 600.0

    schedule = {"schedule": {"cron": "0 6 * * *", "timezone": "UTC"}, "active": True}
    api.call("POST", f"/deployments/{report}/schedules", [schedule])
    alone = PrefectOrchestrator(client, pool).observe()
    assert alone.followers == ()  # the report comes when its schedule says, whatever becomes of the extract
    assert take_census(alone).queues[0, Q.URGENT_SLACK_S] == math.inf
