"""The page of a replay: names are text in it, whatever they hold, and nothing is loaded from elsewhere."""

from html import unescape
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from prefect_intelligent.domain import PoolSetting, Prices, QueueSetting
from prefect_intelligent.domain.objective import Cost
from prefect_intelligent.replay.adapters.html_report import write_page
from prefect_intelligent.replay.adapters.recording_file import Recording
from prefect_intelligent.replay.replay import ReplayResult

EVIL = "</title><script>alert(1)</script><img src=x onerror='alert(2)'>"
RUNS = pd.DataFrame(
    {
        "deployment": "etl/daily",
        "queue": [f"queue {EVIL}", "plain"],
        "scheduled_s": [0.0, 60.0],
        "started_s": [5.0, 70.0],
        "ended_s": [65.0, 190.0],
        "due_s": [np.nan, 100.0],
    }
)


def result(policy: str, **saving: float) -> ReplayResult:
    return ReplayResult(
        policy=policy,
        cost=Cost(capacity_usd=1.5, lateness_usd=2.25 - saving.get("saving_usd", 0.0)),
        late_runs=1,
        due_runs=1,
        weighted_late_minutes=1.5,
        wait_p50_s=7.5,
        wait_p95_s=9.75,
        runs=RUNS,
        **saving,
    )


def test_names_with_markup_are_escaped(tmp_path):
    recording = Recording(
        pool=PoolSetting(name=f"pool {EVIL}", limit=None),
        queues=(QueueSetting(name="plain", priority=1),),
        prices=Prices(),
        poll_s=2.0,
        startup_s=1.0,
        runs=RUNS,
    )
    better = result(f"policy {EVIL}", saving_usd=1.0, saving_low_usd=0.5, saving_high_usd=1.5)
    page = tmp_path / "replay.html"
    write_page(page, recording, [result("prefect-default"), better])
    text = page.read_text()
    assert "<script" not in text
    assert "<img" not in text
    for name in ("pool", "policy", "queue"):
        assert f"{name} {EVIL}" in unescape(text)
    assert "<td>+1.00</td><td>+0.50 to +1.50</td>" in text
    assert "<td>–</td><td>–</td>" in text
    for drawn in text.split("<svg")[1:]:
        ElementTree.fromstring(f"<svg{drawn.split('</svg>')[0]}</svg>")
