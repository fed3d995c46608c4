"""What is drawn of a world is what is in it."""

import numpy as np
import pytest
from PIL import Image

from prefect_intelligent.twin.model.state import RUNNING, WAITING
from prefect_intelligent.twin.simulator import Twin
from simulations.family import SPLITS
from simulations.render import _COLOURS, draw_frame, draw_text, main
from simulations.scenario import load_scenario
from simulations.workload import draw_world

NAMES = ("backfill", "ingest", "marts", "reports")


@pytest.fixture
def rush():
    """The morning rush of the defaults, an hour and forty minutes in: slots full, some runs late."""
    scenario = load_scenario("morning-rush")
    twin = Twin(draw_world(scenario, SPLITS["validation"][0]))
    twin.advance(scenario.start_s + 6000.0)
    return twin


def cells(frame, colour):
    """How many cells of a colour there are: areas of ten by twelve points, counted by their upper left corners."""
    same = np.all(frame == _COLOURS[colour], axis=2)
    corner = same & ~np.roll(same, 1, axis=0) & ~np.roll(same, 1, axis=1)
    return int(corner[:-40, 130:].sum())  # labels, legend and bar are outside


def test_text_shows_names_slots_waiting_runs_and_deadlines(rush):
    text = draw_text(rush, 0, NAMES)
    runs = rush.state.runs[0]
    count = int(rush.world.settings["runs"][0])
    assert all(name in text for name in NAMES)
    assert "6 of 6 slots held" in text
    assert text.count("#") == int(np.sum(runs["phase"][:count] == RUNNING))
    late = (runs["phase"] == WAITING) & (runs["due_s"] < rush.now_s[0])
    assert late.sum() > 0
    assert text.count("!") == late.sum()
    assert "ago" in text


def test_a_frame_has_a_red_cell_for_every_late_run_and_grows_with_the_queues(rush):
    frame = draw_frame(rush, 0, NAMES)
    runs, now_s = rush.state.runs[0], rush.now_s[0]
    shown = np.isin(runs["phase"], (WAITING, RUNNING))
    assert frame.dtype == np.uint8
    assert frame.shape[2] == 3
    assert cells(frame, "late") == int(np.sum(shown & (runs["due_s"] < now_s)))
    assert cells(frame, "soon") == int(np.sum(shown & (runs["due_s"] >= now_s) & (runs["due_s"] < now_s + 900.0)))
    before = draw_frame(Twin(rush.world), 0, NAMES)
    assert before.shape == frame.shape
    assert cells(before, "late") == cells(before, "calm") == 0


def test_two_pools_are_drawn_below_each_other():
    scenario = load_scenario("two-pools-budget")
    twin = Twin(draw_world(scenario, 1))
    twin.advance(scenario.start_s + 5400.0)
    names = [name for pool in scenario.pools for name in sorted(queue.name for queue in pool.queues)]
    text = draw_text(twin, 0, names)
    assert text.index("pool 0") < text.index("etl-hourly") < text.index("pool 1") < text.index("ml-train")


def test_the_command_writes_an_animation_or_prints_text(tmp_path, capsys):
    path = tmp_path / "toy.gif"
    words = ["--scenario", "toy", "--policy", "prefect-default", "--policy", "edf", "--every", "600"]
    assert main([*words, "--gif", str(path)]) == 0
    assert "frames" in capsys.readouterr().out
    with Image.open(path) as film:
        assert film.n_frames > 3
        assert film.size[1] == 2 * (4 * 20 + 8) + 20
    assert [each.name for each in tmp_path.iterdir()] == ["toy.gif"]
    assert main(words) == 0
    assert "dear" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scenario", "toi"], "did you mean 'toy'"),
        (["--scenario", "toy", "--policy", "eddf"], "did you mean 'edf'"),
        (["--scenario", "toy", "--every", "0"], "--every"),
        (["--scenario", "toy", "--hours", "-1"], "--hours"),
        (["--scenario", "toy", "--gif", "gone/x.gif"], "its folder does not exist"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())
