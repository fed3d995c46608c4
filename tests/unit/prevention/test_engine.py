"""Each rule finds its own trouble, names it, keeps to its budget, and lets go; measures are scored afterwards."""

import pandas as pd
import pytest

from prefect_intelligent.domain import Prices
from prefect_intelligent.domain.heartbeats import Heartbeats
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.history.runs_frame import as_runs
from prefect_intelligent.prevention.engine import KIND, prevent, read_measures, undo_prevention
from prefect_intelligent.prevention.evidence import EndedRun, Evidence, LiveRun, binomial_tail, read_evidence
from prefect_intelligent.prevention.measures import MeasureInForce, MeasurePhase, RuleSettings
from prefect_intelligent.prevention.rules import RULES
from prefect_intelligent.prevention.scores import score_measures, summarise
from prefect_intelligent.testing.history import InMemoryHistory
from prefect_intelligent.testing.prevention_actions import InMemoryPreventionActions

NOW = 1_750_000_000.0
HOUR = 3600.0
AUTO = {name: RuleSettings(mode="auto", again=True) for name in RULES}
HOSTS = ("a", "b", "c")


class Pool:
    """Ten hourly deployments on three hosts, six minutes a run; two days without trouble, then what a test adds."""

    def __init__(self):
        self.names = [f"job/{n}" for n in range(10)]
        self.now = NOW
        self.ended: dict[str, list[EndedRun]] = {name: [] for name in self.names}
        self.live: list[LiveRun] = []
        self.history = InMemoryHistory()
        settings = {name: {"memory": 2.0, "avoid": True, "versions": ["v1", "v2"]} for name in self.names}
        self.actions = InMemoryPreventionActions(deployments=settings)
        self.hours(48)

    def hours(self, count, trouble=lambda name, host: None, version="v1"):
        for _ in range(count):
            for number, name in enumerate(self.names):
                if self.actions.slots(name) == 0:
                    continue
                free = [h for h in HOSTS if h not in self.actions.avoided(name)]
                host = free[(number + int(self.now // HOUR)) % len(free)]
                cause = trouble(name, host)
                start = self.now + 30 * number
                self.ended[name].append(
                    EndedRun(name, version, host, start, start + 360.0, cause is not None, cause, 1, 2.0)
                )
            self.now += HOUR

    def evidence(self, **more):
        return Evidence(now_s=self.now, ended=self.ended, live=self.live, longest_s=lambda _: 600.0, **more)

    def act(self, settings=AUTO, **more):
        return prevent(self.evidence(**more), self.history, self.actions, "main", settings=settings)

    def measures(self):
        return {s.key: s for s in read_measures(self.history, "main").values() if s.phase is not MeasurePhase.OVER}


@pytest.fixture
def pool():
    return Pool()


def test_a_healthy_pool_is_left_alone(pool):
    assert pool.act() == []
    assert pool.history.records(KIND) == []


def test_shadow_records_and_pulls_no_lever(pool):
    pool.hours(3, lambda name, _: "ValueError: x" if name == "job/3" else None)
    (step,) = pool.act(settings={})
    assert (step["rule"], step["subject"], step["to"], step["written"]) == (
        "keeps-failing", "deployment:job/3", "on", False,
    )  # fmt: skip
    assert step["note"] == "only recorded"
    assert pool.actions.done == {}
    assert pool.act(settings={}) == []


def test_a_hold_is_probed_by_one_run_and_let_go(pool):
    pool.hours(3, lambda name, _: "ValueError: x" if name == "job/3" else None)
    pool.act()
    assert pool.actions.slots("job/3") == 0
    pool.now += 1801.0
    pool.act()
    assert pool.actions.slots("job/3") == 1
    pool.hours(1, lambda name, _: "ValueError: x" if name == "job/3" else None)
    (step,) = pool.act()
    assert (step["from"], step["to"], step["why"]) == ("probing", "on", "the probe failed: held for 60 min")
    pool.now += 3601.0
    pool.act()
    pool.hours(1)
    (step,) = pool.act()
    assert step["to"] == "over"
    assert pool.actions.done == {}


def test_a_flaky_host_is_named_avoided_and_tried_again(pool):
    pool.hours(2, lambda _, host: "OSError: disk" if host == "b" else None)
    (step,) = pool.act()
    assert (step["rule"], step["subject"], step["lever"]) == ("flaky-host", "host:b", "avoid")
    pool.hours(7, lambda _, host: "OSError: disk" if host == "b" else None)
    assert not any(run.failed for runs in pool.ended.values() for run in runs[-7:])
    pool.act()
    assert pool.measures()["flaky-host host:b"].phase is MeasurePhase.PROBING
    pool.hours(1, lambda _, host: "OSError: disk" if host == "b" else None)
    (step,) = pool.act()
    assert "avoided for 12 h" in step["why"]


def test_too_little_memory_is_doubled_until_a_person_is_needed(pool):
    need = "the process was killed with exit code 137"
    pool.hours(1, lambda name, _: need if name == "job/5" else None)
    pool.act()
    assert pool.actions.memory("job/5") == 4.0
    pool.hours(1, lambda name, _: need if name == "job/5" else None)
    pool.act()
    assert pool.actions.memory("job/5") == 8.0
    pool.hours(1, lambda name, _: need if name == "job/5" else None)
    (step,) = pool.act()
    assert step["lever"] == "alert"
    assert "a person is needed" in step["note"]
    pool.hours(1, version="v2")
    pool.act()
    assert pool.actions.memory("job/5") == 2.0


def test_a_release_that_fails_is_rolled_back_once(pool):
    pool.hours(3, lambda name, _: "KeyError: 'currency'" if name == "job/7" else None, version="v2")
    (step,) = pool.act()
    assert (step["rule"], step["lever"], step["subject"]) == ("bad-release", "roll back", "deployment:job/7")
    assert pool.actions.deployments["job/7"]["versions"] == ["v1"]
    pool.hours(1, lambda name, _: "KeyError: 'currency'" if name == "job/7" else None, version="v2")
    assert pool.act() == []


def test_readers_of_a_failed_source_wait_once_one_of_them_has_failed(pool):
    upstream = {"job/1": ("job/0",), "job/2": ("job/0",)}
    pool.hours(1, lambda name, _: "HTTPError" if name == "job/0" else None)
    assert pool.act(upstream=upstream) == []
    pool.hours(1, lambda name, _: "HTTPError" if name in ("job/0", "job/1") else None)
    (step,) = pool.act(upstream=upstream)
    assert (step["rule"], step["subject"]) == ("bad-input", "deployment:job/0")
    assert (pool.actions.slots("job/1"), pool.actions.slots("job/2")) == (0, 0)
    pool.hours(1)
    pool.act(upstream=upstream)
    assert pool.actions.slots("job/1") == 999


def test_a_failed_quality_check_holds_the_readers_at_once(pool):
    pool.act(upstream={"job/1": ("job/0",)}, unhealthy=frozenset({"job/0"}))
    assert pool.actions.slots("job/1") == 0


def test_an_overloaded_resource_gets_fewer_users(pool):
    uses = dict.fromkeys(pool.names[:6], ("warehouse",))
    late = set(pool.names[3:6])  # the first three that start find room, the others do not
    pool.hours(4, lambda name, _: "OperationalError: too many connections" if name in late else None)
    found = {step["rule"]: step for step in pool.act(resources=uses)}
    step = found["overload"]
    assert (step["subject"], step["lever"], step["measure"]["amount"]) == ("resource:warehouse", "share", 3.0)
    assert set(step["measure"]["deployments"]) == set(uses)


def test_failures_that_do_not_depend_on_the_load_are_no_overload(pool):
    odd = {pool.names[0], pool.names[5]}
    pool.hours(3, lambda name, _: "OperationalError: too many connections" if name in odd else None)
    steps = pool.act(resources=dict.fromkeys(pool.names[:6], ("warehouse",)))
    assert "overload" not in {step["rule"] for step in steps}


def test_a_hung_run_is_stopped_and_started_again(pool):
    pool.live = [
        LiveRun("slow", "job/1", NOW, pool.now - 700.0, None),
        LiveRun("hung", "job/2", NOW, pool.now - 1250.0, None),
    ]
    pool.actions.runs = {run.run_id: {"state": "running", "deployment": run.deployment} for run in pool.live}
    (step,) = pool.act()
    assert (step["subject"], step["lever"]) == ("run:hung", "stop")
    assert (pool.actions.stopped, pool.actions.restarted) == (["hung"], [])
    pool.now += 61
    assert pool.act() == []  # its process may be alive
    pool.actions.runs["hung"]["state"] = "cancelled"
    pool.now += 61
    (step,) = pool.act()
    assert (step["to"], step["why"]) == ("over", "its process has ended, and it was started again")
    pool.now += 61
    pool.act()
    assert (pool.actions.stopped, pool.actions.restarted) == (["hung"], ["hung"])


def test_a_stopped_run_that_does_not_die_is_not_started_again(pool):
    pool.live = [LiveRun("hung", "job/2", NOW, pool.now - 1250.0, None)]
    pool.actions.runs = {"hung": {"state": "running", "deployment": "job/2"}}
    pool.act()
    pool.now += 3601
    (step,) = pool.act()
    assert (step["to"], pool.actions.restarted) == ("over", [])
    assert "is not known" in step["why"]


def test_missed_heartbeats_stop_even_a_short_run(pool):
    began = pool.now - 330.0
    pool.live = [
        LiveRun("silent", "job/1", NOW, began, Heartbeats(last_s=pool.now - 310.0, every_s=30.0)),
        LiveRun("slow", "job/1", NOW, began, Heartbeats(last_s=pool.now - 310.0, every_s=180.0)),
        LiveRun("new", "job/1", NOW, began, Heartbeats(last_s=pool.now - 310.0)),
        LiveRun("mute", "job/2", NOW, began, None),
    ]
    pool.actions.runs = {run.run_id: {"state": "running", "deployment": run.deployment} for run in pool.live}
    pool.act()
    assert pool.actions.stopped == ["silent"]


def test_a_busy_service_is_met_with_patience(pool):
    pool.actions.runs = {"next": {"state": "scheduled", "deployment": "job/4"}}
    for _ in range(3):
        pool.hours(1, lambda name, _: "ReadTimeout: slow" if name == "job/4" else None)
        pool.hours(3)
    (step,) = pool.act()
    assert step["rule"] == "passing-trouble"
    assert pool.actions.runs["next"]["retries"] == 2
    pool.actions.runs["later"] = {"state": "scheduled", "deployment": "job/4"}
    pool.act()
    assert pool.actions.runs["later"]["retries"] == 2
    undo_prevention(pool.history, pool.actions, "main", pool.now)
    assert "retries" not in pool.actions.runs["later"]


def test_an_hour_that_keeps_failing_is_left_out(pool):
    for _ in range(4):
        pool.hours(1, lambda name, _: "RuntimeError: backup" if name == "job/6" else None)
        pool.hours(23)
    pool.live = [LiveRun("w", "job/6", pool.now, None, None)]
    pool.actions.runs = {"w": {"state": "scheduled", "deployment": "job/6"}}
    (step,) = pool.act()
    assert (step["rule"], step["lever"]) == ("bad-hour", "postpone")
    until = (pool.now // HOUR + 1) * HOUR
    assert pool.actions.runs["w"]["scheduled_s"] == until
    pool.live = [LiveRun("urgent", "job/6", pool.now, None, None, due_s=until)]
    assert pool.act() == []


def test_no_more_is_done_than_the_budget_allows(pool):
    settings = AUTO | {"keeps-failing": RuleSettings(mode="auto", most=2, per_day=3)}
    bad = set(pool.names[:5])
    pool.hours(3, lambda name, _: f"ValueError: {name}" if name in bad else None)
    notes = [step["note"] for step in pool.act(settings=settings)]
    assert notes.count("") == 2
    assert notes[-1] == "not done: 2 measures of this rule are in force, its budget is 2"
    assert len(pool.actions.done) == 2
    assert pool.act(settings=settings) == []


def test_what_cannot_be_done_is_said_and_tried_again_later(pool):
    pool.actions.broken = True
    pool.hours(3, lambda name, _: "ValueError: x" if name == "job/3" else None)
    (step,) = pool.act()
    assert "could not be done: the actions are set to fail" in step["note"]
    pool.actions.broken = False
    pool.actions.deployments["job/5"]["memory"] = 0.0
    pool.hours(1, lambda name, _: "MemoryError" if name == "job/5" else None)
    assert "a person is needed" in next(s for s in pool.act() if s["rule"] == "out-of-memory")["note"]


def test_switching_a_rule_off_lets_go_and_undo_lets_go_of_all(pool):
    pool.hours(3, lambda name, _: "ValueError: x" if name in ("job/3", "job/4") else None)
    pool.act()
    other = "prevention of other: keeps-failing deployment:job/9"
    pool.actions.hold(other, ["job/9"])
    pool.act(settings=AUTO | {"keeps-failing": RuleSettings(mode="off")})
    assert pool.actions.in_force() == (other,)
    pool.hours(3, lambda name, _: "ValueError: x" if name == "job/4" else None)
    pool.act()
    assert len(undo_prevention(pool.history, pool.actions, "main", pool.now)) == 1
    assert pool.actions.in_force() == (other,)
    assert pool.measures() == {}


def test_measures_are_scored_by_what_came_after(pool):
    prices = Prices(slot_usd_per_hour=1.0)
    need = "the process was killed with exit code 137"
    pool.hours(1, lambda name, _: need if name == "job/5" else None)
    pool.act()
    pool.hours(3, lambda name, _: "ValueError: x" if name == "job/3" else None)
    pool.act(settings={"keeps-failing": RuleSettings(mode="shadow")})
    pool.hours(2, lambda name, _: "ValueError: x" if name == "job/3" else None)
    records = pool.history.records(KIND, "main")
    scores = {score.rule: score for score in score_measures(records, pool.evidence(), prices)}
    memory = scores["out-of-memory"]
    assert (memory.verdict, memory.written) == ("right", True)
    assert memory.saved_usd == pytest.approx(0.9 * 5 * (0.1 + 2.0))
    shadow = scores["keeps-failing"]
    assert (shadow.verdict, shadow.written) == ("right", False)
    table = summarise(list(scores.values()))
    assert table["out-of-memory"]["precision"] == 1.0


def test_a_hold_that_was_not_needed_is_counted_as_false(pool):
    pool.hours(3, lambda name, _: "ValueError: x" if name == "job/3" else None)
    pool.act()
    pool.now += 1801.0
    pool.act()
    pool.hours(1)
    pool.act()
    (score,) = score_measures(pool.history.records(KIND, "main"), pool.evidence(), Prices())
    assert (score.verdict, score.why) == ("false", "the first probe completed")


def test_measures_survive_the_history(pool):
    pool.hours(3, lambda name, _: "ValueError: x" if name == "job/3" else None)
    pool.act()
    (held,) = pool.measures().values()
    assert MeasureInForce.from_record(held.to_record()) == held


def test_an_empty_history_one_run_and_a_clock_from_the_future_find_nothing():
    empty = as_runs(pd.DataFrame({"deployment": [], "submitted_s": [], "state": []}))
    one = as_runs(
        pd.DataFrame(
            {
                "deployment": ["a/x"],
                "submitted_s": [NOW + 500],
                "started_s": [NOW + 600],
                "ended_s": [NOW + 900],
                "state": ["FAILED"],
                "unknown": [1],
            }
        )
    )
    for runs in (empty, one):
        evidence = read_evidence(runs, NOW, live=[LiveRun("r", "a/x", NOW, NOW + 50, None)])
        assert all(run.ended_s <= NOW for found in evidence.ended.values() for run in found)
        assert prevent(evidence, InMemoryHistory(), InMemoryPreventionActions(), "main") == []


def test_chance_of_failures():
    assert binomial_tail(0, 10, 0.1) == 1.0
    assert binomial_tail(2, 2, 0.1) == pytest.approx(0.01)
    assert binomial_tail(1, 3, 0.5) == pytest.approx(7 / 8)


def test_silly_terms_are_refused():
    with pytest.raises(InvalidInputError, match="budgets 0 or more"):
        RuleSettings(most=-1)
