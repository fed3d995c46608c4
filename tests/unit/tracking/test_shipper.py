"""Shipping with fakes: once, in order, through faults, and bounded."""

import random
import sqlite3
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_intelligent.cli.ship import _patiently
from prefect_intelligent.errors import StoreError, TrackerAccessDeniedError, TrackerError, TrackerUnavailableError
from prefect_intelligent.local.record_versions import UPCASTERS
from prefect_intelligent.local.spool import Entry, Spool
from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.testing.tracker import InMemoryTracker
from prefect_intelligent.tracking.metrics import (
    EVENTS,
    deciding_policy,
    metric_points,
    record_datasets,
    record_metrics,
    stream_name,
)
from prefect_intelligent.tracking.outbox import Outbox, OutboxEvent, OutboxStatus
from prefect_intelligent.tracking.shipper import QUALITY_REQUEST, Shipment, collect, only_shipper, ship, ship_forever

NOON_S = 1_767_268_800.0  # 2026-01-01T12:00:00Z


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool", segment_bytes=2_000)


@pytest.fixture
def outbox(tmp_path):
    return Outbox(tmp_path / "outbox.db")


@pytest.fixture
def tracker():
    return InMemoryTracker()


def fill(spool, count=50, *, start=0, kind="flow_run", pool="p"):
    for i in range(start, start + count):
        spool.append(kind, {"pool": pool, "wait_s": float(i)}, event_id=f"{pool}:{i}", at_s=NOON_S + i)


def once(spool, outbox, tracker, **options):
    return ship(spool, outbox, tracker, ManualClock(NOON_S), batch=10, **options)


def waits(tracker):
    return [v for _, name, _, _, v in sorted(tracker.points, key=lambda p: p[3]) if name == "wait_s"]


def test_everything_arrives_once_and_in_order(spool, outbox, tracker):
    fill(spool)
    done = once(spool, outbox, tracker)
    assert (done.collected, done.sent, done.problem) == (50, 50, "")
    assert waits(tracker) == [float(i) for i in range(50)]
    assert once(spool, outbox, tracker).sent == 0
    assert spool.segments() == ()


def test_an_event_reported_twice_is_sent_once(spool, outbox, tracker):
    fill(spool, 5)
    once(spool, outbox, tracker)
    fill(spool, 5)
    assert once(spool, outbox, tracker).collected == 0
    assert tracker.events() == 5


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_server_that_fails_in_the_middle_gets_the_rest_later(spool, outbox, tracker, calls):
    fill(spool)
    tracker.faults.fail(TrackerUnavailableError("down"), on="log", times=calls)
    for _ in range(calls):
        assert once(spool, outbox, tracker).problem == "down"
    assert once(spool, outbox, tracker).problem == ""
    assert waits(tracker) == [float(i) for i in range(50)]


def test_killed_between_sending_and_noting_it_nothing_is_doubled(spool, outbox, tracker, monkeypatch):
    fill(spool, 20)

    def killed(self, events):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "sent", killed)
        with pytest.raises(KeyboardInterrupt):
            once(spool, outbox, tracker)
    assert tracker.events() == 10
    once(spool, outbox, tracker)
    assert tracker.events() == 20


def test_killed_between_import_and_removal_of_a_segment_nothing_is_doubled(spool, outbox, tracker, monkeypatch):
    fill(spool, 20)

    def killed(self, segment):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            collect(spool, outbox)
    once(spool, outbox, tracker)
    assert tracker.events() == 20
    assert outbox.status().waiting == 0


def test_killed_between_writing_an_archive_and_noting_it_the_same_file_is_written_again(
    spool, outbox, tracker, monkeypatch
):
    fill(spool, 20)

    def killed(self, events):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "archived", killed)
        with pytest.raises(KeyboardInterrupt):
            once(spool, outbox, tracker, archive_all=True)
    fill(spool, 7, start=20)
    once(spool, outbox, tracker, archive_all=True)
    once(spool, outbox, tracker, archive_all=True)
    names = [name for ids in tracker.files.values() for name in ids]
    assert sorted(names) == sorted(f"p:{i}" for i in range(27))


def test_a_record_that_the_server_never_takes_does_not_stop_the_others(spool, outbox, tracker, monkeypatch):
    fill(spool, 20)
    real = InMemoryTracker.log

    def picky(self, events):
        if any(p.entry.id == "p:13" for p in events):
            raise TrackerError("bad name")
        real(self, events)

    monkeypatch.setattr(InMemoryTracker, "log", picky)
    done = once(spool, outbox, tracker)
    assert (done.sent, done.refused, done.problem) == (19, 1, "")
    assert waits(tracker) == [float(i) for i in range(20) if i != 13]
    assert outbox.status().refused == 1


def test_what_waits_is_bounded_and_the_loss_is_counted(spool, tmp_path, tracker):
    small = Outbox(tmp_path / "small.db", max_waiting=30)
    fill(spool)
    tracker.faults.fail(TrackerUnavailableError("down"), on="log")
    done = once(spool, small, tracker)
    assert (done.status.waiting, done.status.lost) == (30, 20)
    once(spool, small, tracker)
    assert waits(tracker) == [float(i) for i in range(20, 50)]
    assert done.to_record()["lost"] == 20


def test_losses_of_the_spool_are_reported(tmp_path, outbox, tracker):
    spool = Spool(tmp_path / "tiny", segment_bytes=500, max_bytes=1_500)
    fill(spool, 100)
    done = once(spool, outbox, tracker)
    assert done.dropped > 0
    assert done.dropped + tracker.events() == 100


def test_ids_are_forgotten_late_and_data_as_soon_as_it_is_archived(spool, tmp_path, tracker):
    outbox = Outbox(tmp_path / "o.db", remember=10)
    fill(spool, 40)
    once(spool, outbox, tracker, archive_all=True)
    assert outbox.status().unarchived == 0
    assert outbox.status().sent == 10


def test_a_requested_check_is_done_once_and_its_failure_is_kept(spool, outbox, tracker):
    seen = []

    def check(entry):
        seen.append(entry.id)
        if entry.id == "bad":
            raise RuntimeError("no such contract")
        spool.append("quality", {"dataset": "d", "good": True}, event_id=f"quality:{entry.id}", at_s=NOON_S)

    for name in ("good", "bad", "good"):
        spool.append(QUALITY_REQUEST, {"contract": "c"}, event_id=name, at_s=NOON_S)
    done = once(spool, outbox, tracker, check=check)
    assert (seen, done.checks, done.sent) == (["good", "bad"], 1, 1)
    assert outbox.status().refused == 1
    once(spool, outbox, tracker, check=check)
    assert seen == ["good", "bad"]


def test_only_one_process_ships_a_spool(spool):
    with only_shipper(spool) as first, only_shipper(spool) as second:
        assert (first, second) == (True, False)
    with only_shipper(spool) as again:
        assert again


def test_the_pause_grows_while_the_server_is_down(spool, outbox, tracker):
    clock, ends = ManualClock(NOON_S), []
    tracker.faults.fail(TrackerUnavailableError("down"), on="log", times=3)
    fill(spool, 1)

    def one():
        done = ship(spool, outbox, tracker, clock)
        ends.append((clock.now_s() - NOON_S, done.problem))
        return done

    ship_forever(one, clock, interval_s=5.0, stopped=lambda: len(ends) == 5, rng=Longest())
    assert [at for at, _ in ends] == [0.0, 10.0, 30.0, 70.0, 75.0]


class Longest(random.Random):
    """Draws no jitter: every pause is the longest that it may be."""

    def random(self):
        return 1.0


def test_a_server_that_denies_us_loses_nothing_and_is_left_in_peace(spool, outbox, tracker):
    clock, ends = ManualClock(NOON_S), []
    tracker.faults.fail(TrackerAccessDeniedError("MLflow: 401"), on="log", times=2)
    fill(spool)

    def one():
        done = ship(spool, outbox, tracker, clock)
        ends.append((clock.now_s() - NOON_S, done.denied, done.refused))
        return done

    ship_forever(one, clock, interval_s=5.0, stopped=lambda: len(ends) == 3, rng=Longest())
    assert ends == [(0.0, True, 0), (60.0, True, 0), (120.0, False, 0)]
    assert waits(tracker) == [float(i) for i in range(50)]


def test_ship_once_does_not_try_again_where_it_is_denied(spool, outbox, tracker):
    tracker.faults.fail(TrackerAccessDeniedError("MLflow: 401"), on="log")
    fill(spool, 1)
    shipper = SimpleNamespace(
        once=lambda archive_all: ship(spool, outbox, tracker, ManualClock(NOON_S), archive_all=archive_all)
    )
    done = _patiently(shipper, archive_all=False)
    assert done.denied
    assert "check MLFLOW_TRACKING_USERNAME" in done.problem


def entry(kind, **record):
    return Entry(id="e", at_s=NOON_S, kind=kind, record=record)


def test_streams_are_one_for_each_kind_owner_and_day():
    assert stream_name(entry("decision", pool="etl")) == "decisions/etl/2026-01-01"
    assert stream_name(entry("quality", dataset="ds/main/orders")) == "quality/ds.main.orders/2026-01-01"
    assert stream_name(entry("flow_run", pool="it's")) == "flow-runs/it-s/2026-01-01"
    assert stream_name(entry("news")) == "news/all/2026-01-01"


def test_numbers_are_flat_finite_and_well_named():
    found = record_metrics(entry("flow_run", wait_s=1, cost={"lateness_usd": 2.5}, ok=True, name="x", bad=float("inf")))
    assert found == {"wait_s": 1.0, "cost/lateness_usd": 2.5, "ok": 1.0}
    assert record_metrics(entry("flow_run", **{"ä;'drop": 1.0})) == {"-drop": 1.0}


def test_a_decision_gives_the_numbers_an_operator_looks_for():
    wish = {"place": 1, "limit": 2}
    queue = {"name": "hot", "waiting": 3, "active": 1, "late": 1, "wanted": {"place": 1, "limit": 9}}
    queue |= {"permitted": wish, "rule": wish, "applied": wish}
    record = {"pool": "p", "queues": [queue], "pool_limit": {"applied": 4}, "applied": [1], "planned": [1, 2]}
    record |= {"stakes": {"cost_usd_per_hour": 7.5, "weighted_late_min": 3.0, "mean_wait_s": 40.0}}
    record["foreseen"] = {"saved_usd": 1.5}
    found = record_metrics(entry("decision", **record, own_ms=1.0, wall_ms=9.0))
    assert found["utilisation"] == 0.25
    assert (found["cost_usd_per_hour"], found["weighted_late_min"], found["mean_wait_s"]) == (7.5, 3.0, 40.0)
    assert found["foreseen/saved_usd"] == 1.5
    assert found["guard_interventions"] == 1
    assert (found["planned_changes"], found["applied_changes"]) == (2, 1)
    assert found["queue/hot/limit"] == 2


def test_a_run_that_has_ended_gives_its_times_and_its_money():
    record = {"work_pool": "etl", "state": "FAILED", "scheduled_s": 100.0, "started_s": 160.0, "state_s": 7360.0}
    record |= {"due_s": 3760.0, "late_usd_per_hour": 5.0, "failure_usd": 20.0, "expected_s": 7000.0, "attempt": 1}
    found = record_metrics(entry("flow_run", **record))
    assert found == {
        "state/completed": 0.0,
        "state/failed": 1.0,
        "state/crashed": 0.0,
        "state/cancelled": 0.0,
        "late_s": 3600.0,
        "cost/lateness_usd": 5.0,
        "cost/failure_usd": 20.0,
        "run_s": 7200.0,
        "prediction_s": 7000.0,
        "prediction_error_s": 200.0,
    }
    running = record_metrics(entry("flow_run", **{**record, "state": "RUNNING"}))
    assert running == {"wait_s": 60.0}


def batch(values, stream="decisions/p/2026-01-01"):
    return [
        OutboxEvent(
            entry=Entry(id=str(i), at_s=NOON_S + i, kind="news", record={"n": value}), stream=stream, place=i + 1
        )
        for i, value in enumerate(values)
    ]


def drawn(values, name="n"):
    return [(p.step, p.value) for p in metric_points(batch(values)) if p.name == name]


def test_a_value_equal_to_both_neighbours_is_left_out_and_the_line_is_the_same():
    assert drawn([5, 5, 5, 5, 7, 5, 5, 5]) == [(1, 5), (4, 5), (5, 7), (6, 5), (8, 5)]
    assert drawn([1]) == [(1, 1)]
    assert drawn([2, 2]) == [(1, 2), (2, 2)]
    assert drawn([1, 2, 3]) == [(1, 1), (2, 2), (3, 3)]


@given(values=st.lists(st.integers(0, 2), min_size=1, max_size=30))
def test_every_value_lies_on_the_drawn_line(values):
    places, heights = zip(*drawn(values), strict=True)
    assert np.interp(range(1, len(values) + 1), places, heights).tolist() == values


def test_the_records_of_a_batch_are_counted_once():
    assert drawn([1, 2, 3], EVENTS) == [(3, 3.0)]
    assert metric_points([]) == []


def test_what_a_record_names():
    quality = entry("quality", dataset="ds/t", first={"contract": "abc"})
    assert record_datasets(quality) == [("ds/t", "abc", "checked")]
    assert record_datasets(entry("flow_run", inputs=["a"], outputs=["b"])) == [("a", "", "read"), ("b", "", "written")]
    assert (deciding_policy(entry("decision", policy="atc")), deciding_policy(quality)) == ("atc", None)


def test_one_pass_is_not_ended_by_a_server_that_is_slow_for_a_moment():
    status = OutboxStatus(waiting=0, sent=9, refused=0, lost=0, torn=0, unarchived=0)
    passes = [
        Shipment(collected=9, sent=4, refused=0, archived=0, checks=1, problem="time-out", status=status, dropped=0),
        Shipment(collected=0, sent=5, refused=0, archived=9, checks=0, problem="", status=status, dropped=0),
    ]

    class Slow:
        clock = ManualClock()

        def once(self, **_):
            return passes.pop(0)

    whole = _patiently(Slow(), archive_all=False)
    assert (whole.problem, whole.collected, whole.sent, whole.archived, whole.checks) == ("", 9, 9, 9, 1)
    assert passes == []


def damage(outbox, event, record):
    with sqlite3.connect(outbox.path) as database:
        database.execute("UPDATE events SET record = ? WHERE id = ?", (record, event))
    database.close()


def test_an_event_that_cannot_be_read_is_refused_and_does_not_stop_the_others(spool, outbox, tracker):
    fill(spool, 5)
    fill(spool, 2, pool="q")
    collect(spool, outbox)
    damage(outbox, "p:2", "{torn")
    for event in ("q:0", "q:1"):
        damage(outbox, event, None)
    done = once(spool, outbox, tracker, archive_all=True)
    assert (done.sent, done.problem) == (4, "")
    assert waits(tracker) == [0.0, 1.0, 3.0, 4.0]
    assert (done.status.refused, done.status.waiting, done.status.unarchived) == (3, 0, 0)
    with sqlite3.connect(outbox.path) as database:
        (why,) = database.execute("SELECT why FROM events WHERE id = 'p:2'").fetchone()
    database.close()
    assert why.startswith("cannot be read: JSONDecodeError")


def test_an_event_that_cannot_be_read_any_more_does_not_stop_the_archive(spool, outbox, tracker):
    fill(spool, 3)
    once(spool, outbox, tracker)
    damage(outbox, "p:1", "{torn")
    assert once(spool, outbox, tracker, archive_all=True).problem == ""
    assert list(tracker.files.values()) == [("p:0", "p:2")]


def test_an_event_keeps_the_version_in_which_it_was_recorded(spool, outbox, tracker, monkeypatch):
    spool.append("size", {"kb": 1}, event_id="old", at_s=NOON_S)
    collect(spool, outbox)
    monkeypatch.setitem(UPCASTERS, "size", (lambda record: {"bytes": record["kb"] * 1000},))
    spool.append("size", {"bytes": 5}, event_id="present", at_s=NOON_S)
    collect(spool, outbox)
    assert [dict(parcel.entry.record) for parcel in outbox.waiting()] == [{"bytes": 1000}, {"bytes": 5}]


@pytest.mark.parametrize(
    "record",
    [
        {"pool": "p", "queues": [{"name": "a"}]},
        {"pool": "p", "queues": 7, "stakes": [1]},
        {"dataset": "d", "first": "no", "inputs": 3},
        {"pool": "p", "wait_s": 10**400},
    ],
)
@pytest.mark.parametrize("kind", ["decision", "quality", "flow_run", "other"])
def test_a_record_of_another_form_is_sent_with_what_can_be_read_of_it(spool, outbox, tracker, kind, record):
    spool.append(kind, record, event_id="odd", at_s=NOON_S)
    done = once(spool, outbox, tracker, archive_all=True)
    assert (done.sent, done.archived, done.problem) == (1, 1, "")
    record_datasets(Entry(id="odd", at_s=NOON_S, kind=kind, record=record))


def test_an_outbox_of_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "outbox.db"
    Outbox(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match=r"has schema 99, and .* none newer than 1"):
        Outbox(path)
