"""What an owner sets after the controller's last pass is what `control restore` leaves."""

import pytest

from prefect_intelligent.prefect_client.api import PrefectApi
from tests.field.steered_pool import SteeredPool

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


@pytest.fixture
def client(sqlite):
    client = PrefectApi(timeout_s=30.0)
    yield client
    client.close()


@pytest.mark.parametrize("passes_after", [0, 1])
@pytest.mark.parametrize("limit", [3, 6, None])
def test_an_edit_counts_whether_or_not_a_pass_has_seen_it(sqlite, client, passes_after, limit):
    pool = sqlite.pool(limit=6)
    steered = SteeredPool(client, pool)
    steered.steer("fifo+fixed:2")
    assert sqlite.numbers(pool)[""][1] == 2
    sqlite.call("PATCH", f"/work_pools/{pool}", {"concurrency_limit": limit})
    for _ in range(passes_after):
        steered.steer("fifo+fixed:2")
    steered.restore()
    assert sqlite.numbers(pool)[""][1] == limit
    steered.restore()
    assert sqlite.numbers(pool)[""][1] == limit


def test_what_nobody_has_edited_goes_back_beside_it(sqlite, client):
    pool = sqlite.pool(limit=6)
    sqlite.queue(pool, "a", priority=1)  # shares the default queue's priority: steering tells them apart
    before = sqlite.numbers(pool)
    steered = SteeredPool(client, pool)
    steered.steer("edf+fixed:2")
    sqlite.call("PATCH", f"/work_queues/{sqlite.queues(pool)['a']['id']}", {"priority": 30})
    steered.restore()
    after = sqlite.numbers(pool)
    assert after["a"][0] == 30
    assert after[""] == before[""]
    assert after["default"] == before["default"]
