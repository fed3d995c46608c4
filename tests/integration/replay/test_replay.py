"""A recording replayed under several policies, from the file to the page."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from prefect_intelligent.cli import main
from prefect_intelligent.domain import PoolSetting, Prices, QueueSetting
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.history.adapters.sql_records import open_history
from prefect_intelligent.history.runs_frame import as_runs
from prefect_intelligent.policy import parse_policy
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.replay.adapters.recording_file import Recording, read_recording, write_recording
from prefect_intelligent.replay.replay import past_estimates, replay
from prefect_intelligent.settings import Settings
from prefect_intelligent.wiring.replay import recording_model

BEGIN = 1_760_000_000.0
GUARD = GuardSettings(interval_s=10)
REGIME = Regime(interval_s=10.0, guard=GUARD)


def rush(seed=0):
    """Thirty cheap runs at once on one slot, and a dear one each ten minutes, in the queue served last."""
    rng = np.random.default_rng(seed)
    cheap, dear = 30, 3
    scheduled = np.concatenate([np.full(cheap, BEGIN), BEGIN + 60 + 600.0 * np.arange(dear)])
    work = rng.uniform(40, 60, cheap + dear)
    is_dear = np.arange(cheap + dear) >= cheap
    return as_runs(
        pd.DataFrame(
            {
                "queue": np.where(is_dear, "dear", "cheap"),
                "deployment": np.where(is_dear, "report/daily", "backfill/all"),
                "state": "COMPLETED",
                "scheduled_s": scheduled,
                "submitted_s": scheduled,
                "started_s": scheduled + 5,
                "ended_s": scheduled + 5 + work,
                "due_s": np.where(is_dear, scheduled + 300, np.nan),
                "late_usd_per_hour": np.where(is_dear, 60.0, 0.0),
                "failure_usd": 0.0,
            }
        )
    )


@pytest.fixture
def recording():
    return Recording(
        pool=PoolSetting(name="etl", limit=1),
        queues=(QueueSetting(name="cheap", priority=1), QueueSetting(name="dear", priority=2)),
        prices=Prices(slot_usd_per_hour=0.1),
        poll_s=2.0,
        startup_s=1.0,
        runs=rush(),
    )


def replayed(recording, *names, guard=GUARD):
    policies = {name: parse_policy(name) for name in ("prefect-default", *names)}
    regime = Regime(interval_s=10.0, guard=guard)
    return replay(recording.runs, recording_model(Settings(), recording), policies, regime=regime)


def test_a_rule_that_knows_deadlines_saves_what_the_default_wastes(recording):
    default, edf = replayed(recording, "edf")
    assert default.late_runs == 3
    assert edf.late_runs == 0
    assert edf.saving_usd == pytest.approx(default.cost.total_usd - edf.cost.total_usd)
    assert 0 < edf.saving_low_usd <= edf.saving_usd <= edf.saving_high_usd
    assert default.saving_usd is None


def test_every_policy_meets_the_same_runs_with_the_same_work(recording):
    default, edf = replayed(recording, "edf")
    held = [(each.runs["ended_s"] - each.runs["started_s"]).to_numpy() for each in (default, edf)]
    recorded = (recording.runs["ended_s"] - recording.runs["started_s"]).to_numpy()
    for seconds in held:
        assert np.all(seconds >= recorded)  # the recorded work and a start-up
        assert np.all(seconds <= recorded + 3.0)


def test_the_limit_of_the_pool_is_kept(recording):
    for each in replayed(recording, "atc"):
        starts = each.runs.sort_values("started_s")
        assert np.all(starts["started_s"].to_numpy()[1:] >= starts["ended_s"].to_numpy()[:-1])


def test_with_the_guard_off_every_policy_is_the_default(recording):
    default, edf = replayed(recording, "edf", guard=GuardSettings(interval_s=10, enabled=False))
    pd.testing.assert_frame_equal(default.runs, edf.runs)
    assert edf.saving_usd == 0


def test_a_replay_repeats_itself(recording):
    first, second = (replayed(recording, "edf")[1] for _ in range(2))
    pd.testing.assert_frame_equal(first.runs, second.runs)
    assert (first.saving_low_usd, first.saving_high_usd) == (second.saving_low_usd, second.saving_high_usd)


def test_predictions_come_from_what_had_ended_before():
    runs = rush()
    later = runs.copy()
    cut = BEGIN + 700
    after = later["submitted_s"] > cut
    later.loc[after, "ended_s"] += 5000
    before = [estimate for estimate, is_after in zip(past_estimates(runs), after, strict=True) if not is_after]
    again = [estimate for estimate, is_after in zip(past_estimates(later), after, strict=True) if not is_after]
    assert before == again


def test_a_history_without_an_ended_run_is_refused(recording):
    runs = recording.runs.assign(state="RUNNING", ended_s=np.nan)
    with pytest.raises(InvalidInputError, match="nothing to replay"):
        replay(
            runs,
            recording_model(Settings(), recording),
            {"prefect-default": parse_policy("prefect-default")},
            regime=REGIME,
        )


def test_todays_settings_must_be_among_the_policies(recording):
    with pytest.raises(UnknownNameError, match="prefect-default"):
        replay(recording.runs, recording_model(Settings(), recording), {"edf": parse_policy("edf")}, regime=REGIME)


def test_a_queue_that_has_gone_since_is_served_last(recording):
    runs = recording.runs.assign(queue=recording.runs["queue"].replace("dear", "gone"))
    without = Recording(**{**{f: getattr(recording, f) for f in recording.__slots__}, "runs": runs})
    model = recording_model(Settings(), without)
    assert {queue.name: queue.priority for queue in model.queues} == {"cheap": 1, "dear": 2, "gone": 3}


def test_a_recording_survives_its_file(recording, tmp_path):
    path = tmp_path / "etl.json"
    write_recording(path, recording)
    back = read_recording(path)
    assert (back.pool, back.queues, back.prices, back.poll_s, back.startup_s) == (
        recording.pool,
        recording.queues,
        recording.prices,
        recording.poll_s,
        recording.startup_s,
    )
    columns = ["deployment", "queue", "state", "scheduled_s", "due_s", "late_usd_per_hour"]
    pd.testing.assert_frame_equal(back.runs[columns], recording.runs[columns], check_dtype=False)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "its 'format' must be"),
        ('{"format": "prefect-intelligent-recording", "version": 2}', "its version is 2"),
        ('{"format": "prefect-intelligent-recording", "version": 1}', "a part is missing"),
    ],
)
def test_a_file_that_is_no_recording_is_bad_input(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        read_recording(path)


def test_no_policy_gets_more_slots_than_a_controller_may_give(recording, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_recording(tmp_path / "etl.json", recording)
    words = ["replay", "--recording", "etl.json", "--policies", "edf,edf+fixed:9", "--json"]

    def cost():
        assert main(words) == 0
        return [each["cost_usd"] for each in json.loads(capsys.readouterr().out)["policies"][1:]]

    one_slot, nine_slots = cost()
    assert nine_slots == one_slot
    (tmp_path / "prefect-intelligent.toml").write_text("[pools.etl]\nmost_slots = 9\n")
    one_slot, nine_slots = cost()
    assert nine_slots != one_slot


def test_the_command_prints_one_object_and_writes_the_page(recording, tmp_path, capsys):
    path, page = tmp_path / "etl.json", tmp_path / "replay.html"
    write_recording(path, recording)
    policies = "static,edf,wspt,atc"
    assert main(["replay", "--recording", str(path), "--policies", policies, "--json", "--html", str(page)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [each["policy"] for each in said["policies"]] == ["prefect-default", "static", "edf", "wspt", "atc"]
    assert said["policies"][2]["late_runs"] == 0
    text = page.read_text()
    assert text.count("<svg") == 2
    assert "http" not in text.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--html", "gone/x.html"], "--html: got 'gone/x.html'; its folder does not exist"),
        (["--save", "gone/x.json"], "--save: got 'gone/x.json'; its folder does not exist"),
        (["--last", "soon"], "expected a span"),
    ],
)
def test_the_command_refuses_before_it_computes(recording, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    write_recording(tmp_path / "etl.json", recording)
    assert main(["replay", "--recording", "etl.json", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["etl.json"]


def test_the_page_says_what_is_proven_and_over_how_long(recording, tmp_path, capsys):
    write_recording(tmp_path / "etl.json", recording)
    page = tmp_path / "replay.html"
    words = ["replay", "--recording", str(tmp_path / "etl.json"), "--policies", "edf,fifo", "--html", str(page)]
    assert main(words) == 0
    text = page.read_text()
    assert "Proven better than today's settings (interval above zero): edf" in text.replace("&#x27;", "'")
    assert re.search(r"33 recorded runs over [1-9]", text)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["etl.json", "replay.html"]


def test_the_command_names_the_nearest_policy_and_writes_nothing(recording, tmp_path, capsys):
    path = tmp_path / "etl.json"
    write_recording(path, recording)
    page = tmp_path / "replay.html"
    assert main(["replay", "--recording", str(path), "--policies", "efd", "--html", str(page)]) == 2
    assert "did you mean 'edf'" in capsys.readouterr().err
    assert not page.exists()


def test_the_front_has_the_positions_of_the_dial_and_is_kept(recording, tmp_path, capsys, monkeypatch):
    file, url = tmp_path / "r.json.gz", f"sqlite:///{tmp_path}/h.db"
    write_recording(file, recording)
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", url)
    monkeypatch.setenv("PREFECT_INTELLIGENT_POLICY", "edf")
    assert main(["replay", "--recording", str(file), "--policies", "edf", "--front", "--json"]) == 0
    played = json.loads(capsys.readouterr().out)["policies"]
    points = open_history(url).latest("front", recording.pool.name)["points"]
    dials = [point for point in points if point["dial"] is not None]
    weight = recording.prices.lateness_weight
    assert [point["dial"] / weight for point in dials] == [1.0, 0.25, 0.5, 2.0, 4.0]
    assert [point["here"] for point in points].count(True) == 1
    assert [point["name"] for point in points if point["dial"] is None] == ["prefect-default"]
    edf = next(row for row in played if row["policy"] == "edf")
    assert dials[0]["capacity_usd"] == pytest.approx(edf["capacity_usd"])
    # edf does not look at the dial, and lateness is told at its plain price
    assert [point["lateness_usd"] for point in dials] == pytest.approx([edf["lateness_usd"] / weight] * 5)


@pytest.fixture
def shared_queue(recording, tmp_path):
    """Words that replay a recording whose reports share their queue with a backfill."""
    runs = recording.runs.assign(queue="default")
    queues = (QueueSetting(name="default", priority=1),)
    fields = {name: getattr(recording, name) for name in recording.__slots__}
    write_recording(tmp_path / "shared.json", Recording(**{**fields, "queues": queues, "runs": runs}))
    return ["replay", "--recording", str(tmp_path / "shared.json"), "--policies", "edf"]


def test_what_adoption_would_bring_is_replayed_too(shared_queue, capsys):
    assert main([*shared_queue, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    default, edf, adopted = said["policies"]
    assert [each["policy"] for each in said["policies"]] == ["prefect-default", "edf", "edf, adopted"]
    assert (default["late_runs"], edf["late_runs"], adopted["late_runs"]) == (3, 3, 0)
    assert edf["saving_usd"] == pytest.approx(0.0, abs=0.01)
    assert adopted["saving_low_usd"] > 0
    assert adopted["usd_per_day"] * said["days"] == pytest.approx(adopted["cost_usd"])
    assert said["next"] == "prefect-intelligent control adopt --pool etl"


def test_the_table_ends_with_the_next_command(shared_queue, recording, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(shared_queue) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "Next: prefect-intelligent control adopt --pool etl"
    assert any(line.startswith("edf, adopted ") for line in lines)
    write_recording(tmp_path / "etl.json", recording)
    for policy, command in (
        ("edf", "control run --pool etl --policy edf --mode shadow"),
        ("fifo", "recommend --pool etl"),
    ):
        assert main(["replay", "--recording", str(tmp_path / "etl.json"), "--policies", policy]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"Next: prefect-intelligent {command}"


class Asked:
    """A rule that is asked as if it were a network."""

    def __init__(self, rule):
        self.name, self.propose = rule.name, rule.propose


@pytest.mark.parametrize("name", ["general", "atc+lookahead+share"])
def test_a_rule_that_is_followed_plays_as_one_that_is_asked(recording, name):
    rule = parse_policy(name)
    policies = {"prefect-default": parse_policy("prefect-default"), "followed": rule, "asked": Asked(rule)}
    prices = Prices(slot_usd_per_hour=0.1, idle_fraction=1.0)
    pool = Recording(**{n: getattr(recording, n) for n in recording.__slots__} | {"prices": prices})
    _, followed, asked = replay(pool.runs, recording_model(Settings(), pool), policies, regime=REGIME)
    pd.testing.assert_frame_equal(followed.runs, asked.runs)
    assert followed.cost == asked.cost
    assert followed.saving_usd == asked.saving_usd
