"""Parts of a fit are done elsewhere with the same result, whoever dies."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("stable_baselines3")
pytest.importorskip("prefect_dask")

from benchmarks.cluster import fit_on_cluster, unfinished
from rl.fit import FitConfig
from rl.parallel.packing import pack, unpack
from rl.parallel.spread import here, in_processes
from tests.dask_cluster import open_cluster
from tests.real_prefect import Api


def square(number: int) -> int:
    return number * number


def fails(number: int) -> int:
    raise ValueError(f"{number} cannot be done")


def test_parts_come_back_in_order_and_an_error_of_one_comes_back_too() -> None:
    calls = [(number,) for number in range(5)]
    assert here(square, calls, "square") == [0, 1, 4, 9, 16]
    with in_processes(2) as spread:
        assert spread(lambda number: number + 1, calls, "next") == [1, 2, 3, 4, 5]
        with pytest.raises(ValueError, match="0 cannot be done"):
            spread(fails, calls, "fail")


def test_a_folder_travels_as_bytes(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"\0\1")
    there = unpack(pack(tmp_path / "a"), tmp_path / "there")
    assert (there / "b" / "c").read_bytes() == b"\0\1"


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_fit_on_two_workers_of_which_one_dies_has_the_weights_of_one_machine(
    prefect_api: str, api: Api, tmp_path: Path
) -> None:
    config = FitConfig(tuned_worlds=700, labelled_days=160, ppo_steps=0, choice_days=3, planned_days=2, judged_days=2)
    with open_cluster(tmp_path / "cluster", "one", "two") as cluster:
        assert fit_on_cluster("toy", config, tmp_path / "fits", cluster, "two")
    assert unfinished(api) == 0
    assert not [*(tmp_path / "cluster").rglob("*.npz")]
