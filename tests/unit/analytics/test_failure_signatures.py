"""Failures with one cause share a signature whatever their values, and a cause knows where it came from."""

import pandas as pd
import pytest

from prefect_intelligent.analytics.failure_signatures import group_causes
from prefect_intelligent.history.failure_signature import UNKNOWN, signature
from prefect_intelligent.history.runs_frame import as_runs

TRACE = """Encountered exception during execution: ValueError('no row {row}')
Traceback (most recent call last):
  File "/opt/venv/lib/python3.11/site-packages/prefect/flow_engine.py", line {line}, in run_context
    yield self
  File "/srv/{folder}/etl.py", line 88, in load
    raise ValueError
ValueError: no row {row} in '{table}' of {url}
"""


def test_values_places_and_addresses_do_not_matter():
    one = TRACE.format(row=17, line=5, folder="a", table="flights", url="postgresql://db:5432/x")
    other = TRACE.format(row=99812, line=6, folder="b/c", table="planes", url="https://h/y?z=1")
    assert signature(one) == signature(other) == "ValueError: no row <n> in <text> of <url> (load in etl.py)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, UNKNOWN),
        ("   ", UNKNOWN),
        ("Flow run encountered an exception: KeyError: 'a'", "KeyError: <text>"),
        ("Flow run process exited with status code 137.", "Flow run process exited with status code 137."),
        ("httpx.ConnectTimeout: ", "ConnectTimeout"),
        ("died at 2026-01-01T00:00:00Z on 0xdeadbeef", "died at <time> on <address>"),
        ("run 3f2504e0-4f89-11d3-9a0c-0305e82c3301 vanished", "run <id> vanished"),
    ],
)
def test_messages_are_normalised(text, expected):
    assert signature(text) == expected


def test_a_very_long_message_is_cut():
    assert len(signature("x y " * 400)) <= 160


def failures(rows):
    frame = pd.DataFrame(rows, columns=["at", "version", "host", "state", "cause"])
    return as_runs(
        pd.DataFrame(
            {
                "deployment": "etl/d",
                "submitted_s": frame["at"],
                "started_s": frame["at"],
                "ended_s": frame["at"] + 10,
                "state": frame["state"],
                "version": frame["version"],
                "host": frame["host"],
                "cause": frame["cause"],
            }
        )
    )


def test_the_version_that_brought_a_cause_is_named():
    runs = failures(
        [(i * 100.0, "v1", "h1", "COMPLETED", None) for i in range(6)]
        + [(1000.0 + i * 100, "v2", "h1", "FAILED", "KeyError: <text>") for i in range(3)]
    )
    (cause,) = group_causes(runs)
    assert (cause.introduced_by, cause.failures, cause.wasted_s) == ("v2", 3, 30.0)
    assert cause.host is None


def test_the_only_host_of_a_cause_is_named():
    rows = []
    for i in range(40):
        host = f"h{i % 4}"
        failed = host == "h3"
        rows.append((i * 100.0, "v1", host, "FAILED" if failed else "COMPLETED", "OSError: disk" if failed else None))
    (cause,) = group_causes(failures(rows))
    assert (cause.host, cause.introduced_by) == ("h3", None)


def test_without_failures_there_are_no_causes():
    assert group_causes(failures([(0.0, None, None, "COMPLETED", None)])) == ()
