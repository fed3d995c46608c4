"""Bounds whose value is known, figures from outcomes that are made up, and recorded workloads as episodes."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ortools")


from prefect_intelligent.domain import Prices, QueueSetting
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.policy import parse_policy
from prefect_intelligent.policy.census import Array
from prefect_intelligent.policy.planner import Planner
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.model.stacking import stack
from prefect_intelligent.twin.model.world import FAILS, World
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, Runs
from rl.evaluate import Contest, main, read_contestants, run_case
from rl.evaluation.bounds import lower_bound_usd, relaxed_usd, scheduled_usd
from rl.evaluation.comparisons import Played, best_rule, compare, gap_closed, summary, verdict
from rl.evaluation.report import write_report
from rl.service import UNHURRIED
from rl.simulators import play
from rl.suites import Case, family_cases, suite
from rl.trace_cases import RUNS, load_factor, past_estimates, trace_windows
from simulations.metrics import EpisodeMetrics
from simulations.scenario import load_scenario
from simulations.workload import draw_world


def single_machine(work_s: Array, due_s: Array, price: Array, slots: int = 1) -> World:
    """Runs that all come at once to so many slots, each of its own deployment; capacity costs nothing."""
    n = len(work_s)
    names = [f"d{i}" for i in range(n)]
    runs = Runs(
        deployment=np.arange(n),
        scheduled_s=np.zeros(n),
        known_s=np.full(n, -np.inf),
        work_s=work_s.astype(float),
        p50_s=work_s.astype(float),
        spread=np.zeros(n),
        due_s=due_s.astype(float),
        due_within_s=np.full(n, np.inf),
        outcome_source=np.ones(n, dtype=np.int8),
        edges=np.zeros((0, 2), dtype=np.int64),
    )
    pool = PoolSpec(
        queues=tuple(QueueSetting(name=name, priority=i + 1) for i, name in enumerate(names)),
        limit=slots,
        max_slots=slots,
        prices=Prices(slot_usd_per_hour=0.0),
        poll_s=0.0,
        startup_s=0.0,
        prefetch_s=0.0,
    )
    terms = [DeploymentSpec(name=n_, queue=n_, late_usd_per_hour=float(p)) for n_, p in zip(names, price, strict=True)]
    return build_world([pool], terms, runs)


@pytest.mark.parametrize("seed", range(4))
def test_the_exact_bound_of_one_machine_is_the_best_of_all_orders(seed: int) -> None:
    rng = np.random.default_rng(seed)
    work, due, price = rng.integers(60, 900, 6), rng.integers(60, 2000, 6), rng.integers(1, 20, 6)

    def late_usd(order: tuple[int, ...]) -> float:
        ends = np.cumsum(work[list(order)])
        return float((np.maximum(ends - due[list(order)], 0) * price[list(order)]).sum() / 3600)

    best = min(late_usd(order) for order in itertools.permutations(range(6)))
    assert best > 0
    found = scheduled_usd(single_machine(work, due, price))
    assert best * 0.99 - 0.01 <= found <= best + 1e-9


def test_more_slots_lower_the_exact_bound_down_to_the_relaxation() -> None:
    work, due, price = np.full(4, 600), np.full(4, 500), np.full(4, 6.0)
    bounds = [scheduled_usd(single_machine(work, due, price, slots)) for slots in (1, 2, 4)]
    assert bounds[0] > bounds[1] > bounds[2] == pytest.approx(4 * 100 * 6 / 3600, rel=1e-3)
    assert relaxed_usd(single_machine(work, due, price, 1))[0] == pytest.approx(bounds[2], rel=1e-3)


def test_the_toy_scenario_is_bounded_tightly() -> None:
    world = draw_world(load_scenario("toy"), 0)
    bound = lower_bound_usd(world)[0]
    assert bound == pytest.approx(1.65)
    assert bound <= play(world, parse_policy("wspt"), Regime()).cost_usd[0] < 1.02 * bound


def test_no_policy_goes_below_the_bound() -> None:
    for case in family_cases("validation")[:2]:
        world = next(case.batches(3))
        bound = lower_bound_usd(world)
        for rule in ("prefect-default", "atc+lookahead+share"):
            assert (play(world, parse_policy(rule), Regime()).cost_usd >= bound - 1e-6).all()


def test_where_runs_can_be_cancelled_there_is_no_bound() -> None:
    world = single_machine(np.full(3, 60), np.full(3, 60), np.ones(3))
    world.deployments["cancels_new"] = 1
    assert np.isnan(relaxed_usd(world)).all()


def outcome(cost: Array) -> EpisodeMetrics:
    return EpisodeMetrics(cost, *[np.zeros(len(cost))] * (len(EpisodeMetrics.__slots__) - 1))


def results(ours: float, seeds: int = 1) -> dict[str, Played]:
    rng = np.random.default_rng(0)
    found = {}
    for case, group in (("a", "unseen"), ("b", "trace")):
        base = np.exp(rng.normal(0, 1, 40))
        noise = [np.exp(rng.normal(0, 0.02, 40)) for _ in range(seeds)]
        found[case] = Played(
            group,
            {
                "ours": [outcome(base * ours * each) for each in noise],
                "tuned": [outcome(base)],
                "edf+reactive+share": [outcome(base * 1.2)],
                "prefect-default": [outcome(base * 2)],
                "clairvoyant": [outcome(base[:5] * 0.8)],
            },
            base * 0.7,
        )
    return found


def test_figures_have_their_names_and_values() -> None:
    played = results(0.9, seeds=3)
    figures = summary(played, "ours", ("prefect-default", "edf+reactive+share"))
    assert best_rule(played, ("prefect-default", "edf+reactive+share")) == "edf+reactive+share"
    assert figures["ratio_vs_tuned"] == pytest.approx(0.9, abs=0.01)
    assert figures["ratio_vs_tuned"] < figures["ratio_vs_tuned_hi"] < 0.92
    assert figures["ratio_vs_best_rule"] == pytest.approx(0.75, abs=0.01)
    assert figures["ratio_vs_planner"] == pytest.approx(0.9 / 0.8, abs=0.02)
    assert figures["gap_closed"] == pytest.approx(np.log(0.9) / np.log(0.8), abs=0.05)
    assert figures["ratio_vs_bound"] == pytest.approx(0.9 / 0.7, abs=0.02)
    assert {"gap_closed_traces", "worst_scenario_ratio", "guard_violations", "ratio_vs_default"} <= set(figures)
    assert verdict(figures) == "gain proven"
    assert compare(played, "ours", "tuned")["groups"]["trace"]["value"] == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ratio_vs_tuned_hi": 1.0}, "no proven gain"),
        ({"ratio_vs_best_rule_hi": 1.2}, "no proven gain"),
        ({"worst_scenario_ratio": 1.06}, "one case is worse"),
        ({"guard_violations": 1.0}, "no proven gain"),
    ],
)
def test_the_verdict_claims_nothing_that_is_not_proven(change: dict[str, float], words: str) -> None:
    figures = summary(results(0.9), "ours", ("edf+reactive+share",))
    assert words in verdict(figures | change)


def test_there_is_no_gap_where_foresight_does_not_help() -> None:
    played = results(0.9)
    same = {case: replace(p, outcomes={**p.outcomes, "clairvoyant": p.outcomes["tuned"]}) for case, p in played.items()}
    assert gap_closed(same, "ours") is None


def test_a_small_contest_at_two_bounds_is_written_with_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = main(
        [
            *("--suite", "validation", "--cases", "toy", "--policies", "tuned,prefect-default,clairvoyant"),
            *("--episodes", "3", "--planner-episodes", "2", "--jobs", "1", "--out", str(tmp_path)),
            *("--bounds", "1,2", "--json"),
        ]
    )
    assert found == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert {"ratio_vs_default_1x", "ratio_vs_default_2x", "guard_violations"} <= set(figures)
    report = json.loads((tmp_path / "validation-1x" / "report.json").read_text())
    assert report["context"]["regime"]["pool_factor"] == 1.0
    assert report["context"]["regime"]["interval_s"] == 20.0
    assert report["context"]["verdict"].startswith("no claim")
    assert {"data_sha256", "model_sha256", "commit", "left_out", "means"} <= set(report["context"])
    assert any("two-pools-budget" in line for line in report["context"]["left_out"])
    assert (tmp_path / "validation-1x" / "profiles.png").stat().st_size > 5000
    before = (tmp_path / "validation-1x" / "README.md").read_text()
    assert write_report(report, tmp_path) == tmp_path / "validation-1x-2"
    assert (tmp_path / "validation-1x" / "README.md").read_text() == before


@pytest.mark.parametrize(
    "argv",
    [["--suite", "nope"], ["--cases", "nope"], ["--policies", "nope"], ["--policies", "seeds"], ["--episodes", "1"]],
)
def test_bad_options_end_with_two(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*argv, "--no-save"]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("split", ["validation", "test"])
def test_no_two_cases_share_a_name(split: str, tmp_path: Path) -> None:
    names = [case.name for case in suite([split], tmp_path)[0]]
    assert len(names) == len(set(names))


def test_missing_traces_are_left_out_with_a_message(tmp_path: Path) -> None:
    cases, left_out = suite(("validation",), tmp_path)
    assert not [case for case in cases if case.group == "trace"]
    assert len([line for line in left_out if "--traces" in line]) == 4
    with pytest.raises(UnknownNameError):
        suite(("validatoin",), tmp_path)
    with pytest.raises(InvalidInputError):
        Contest(cases=("toy",), episodes=1)


def surf(folder: Path, rows: int = 3 * RUNS, days: float = 30.0) -> None:
    rng = np.random.default_rng(0)
    submit = np.sort(rng.uniform(3600, days * 86400, rows)).round()
    lines = [
        f"{i},{s},{max(1, round(w))},16" for i, (s, w) in enumerate(zip(submit, rng.lognormal(5, 2, rows), strict=True))
    ]
    (folder / "surf_month.csv.gz").write_bytes(
        __import__("gzip").compress("\n".join(["id,submit_s,run_s,cpu_count", *lines]).encode())
    )


def test_a_recorded_workload_is_split_in_time_and_brought_to_its_load(tmp_path: Path) -> None:
    surf(tmp_path)
    validation, test = (trace_windows("surf", tmp_path, split) for split in ("validation", "test"))
    assert (len(validation), len(test)) == (1, 1)  # 20 of 30 days before, 10 after: what is left over makes no window
    window = validation[0]
    for queues, slots, load in ((3, 8, 0.7), (8, 32, 1.2)):
        world = window.world(queues, slots, load_factor(window.work_s, load * slots), 0)
        assert world.runs["work_s"].sum() / 8 / 3600 / slots == pytest.approx(load, rel=0.01)
        assert set(world.runs["queue"][0]) == set(range(queues))
        assert np.isfinite(world.runs["due_s"]).all()
    cases, _ = suite(("validation",), tmp_path)
    names = {case.name for case in cases if case.group == "trace"}
    assert names == {f"surf-{size}-{load}" for size in ("small", "large") for load in ("0.7", "0.95", "1.2")}
    assert next(case for case in cases if case.name == "surf-small-0.7").episodes(40) == 1


def test_estimates_know_only_what_had_ended() -> None:
    submit, work = np.array([0.0, 10.0, 500.0, 501.0]), np.array([100.0, 1e6, 50.0, 50.0])
    one = past_estimates(submit, work, np.zeros(4))[0]
    changed = work.copy()
    changed[1] = 5.0  # ended before the third came: now it counts
    other = past_estimates(submit, changed, np.zeros(4))[0]
    assert one[0] == one[1] == 600.0
    assert one[2] != 600.0
    assert other[2] != one[2]
    assert np.array_equal(other[:2], one[:2])


def test_failed_runs_fail_in_the_twin() -> None:
    rng = np.random.default_rng(0)
    from rl.trace_cases import Window

    n = 40
    window = Window(
        submit_s=np.sort(rng.uniform(0, 28800, n)),
        work_s=rng.uniform(10, 100, n),
        expected_s=np.full(n, 50.0),
        spread=np.full(n, 0.5),
        failed=np.arange(n) % 4 == 0,
        key=rng.integers(0, 5, n).astype(float),
    )
    assert (window.world(3, 8, 1.0, 0).runs["outcome_source"] == FAILS).sum() == 10


@pytest.mark.parametrize("clairvoyant", [True, False])
def test_a_planner_improves_on_its_pupil_also_without_foresight(clairvoyant: bool) -> None:
    pupil, regime = parse_policy("edf+reactive+share"), Regime(interval_s=60.0)
    planner = Planner(inner=pupil, base=parse_policy("atc+lookahead+share"), config=UNHURRIED)
    world = stack([draw_world(load_scenario("morning-rush"), 1_000_000 + day) for day in range(4)])
    planned = play(world, planner, regime, clairvoyant=clairvoyant).cost_usd
    assert np.log(planned / play(world, pupil, regime).cost_usd).mean() < np.log(0.99)


def test_planners_play_the_first_episodes_only() -> None:
    entered = read_contestants("tuned,clairvoyant")
    case = Case("toy", "", "scenario", lambda n: draw_world(load_scenario("toy"), n))
    played = run_case(case, entered, 4, 2, Regime())
    assert played.costs("tuned").shape == (1, 4)
    assert played.costs("clairvoyant").shape == (1, 2)
    assert played.ratios("clairvoyant", "tuned").shape == (1, 2)


def test_a_bundle_without_a_lever_moves_the_others_alone() -> None:
    shipped, no_pool, no_place = (each.policies[0] for each in read_contestants("shipped,without-pool,without-place"))
    world = stack([draw_world(load_scenario("morning-rush"), day) for day in range(8)])
    loop = ClosedLoop(Twin(world), Regime(interval_s=60.0, pool_factor=4.0))
    moved = np.zeros(4)
    for _ in range(120):
        rule = shipped.base.propose(loop.census)
        kept, whole = no_pool.propose(loop.census), shipped.propose(loop.census)
        moved += [
            (whole.pool_limit != rule.pool_limit).sum(),
            (kept.pool_limit != rule.pool_limit).sum(),
            (whole.pool_limit != no_place.propose(loop.census).pool_limit).sum(),
            (np.argsort(kept.score) != np.argsort(whole.score)).sum(),
        ]
        loop.step(whole)
    assert moved[0] > 0
    assert moved[1:].tolist() == [0, 0, 0]
    with pytest.raises(InvalidInputError, match="after a bundle"):
        read_contestants("tuned,without-pool")
    with pytest.raises(InvalidInputError, match="pool, place, share"):
        read_contestants("shipped,without-brakes")
