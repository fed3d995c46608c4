"""The mean of policies trained from one start."""

from dataclasses import replace

import numpy as np
import pytest

from prefect_intelligent.policy.bundle import read_bundle, write_bundle
from rl.average import main
from tests.bundles import random_bundle


def trained(folder, seed, **changed):
    """A bundle whose observations are normalised as those of all seeds."""
    bundle = read_bundle(random_bundle(folder, seed))
    weights = {name: np.ones_like(a) if name.endswith((".mean", ".std")) else a for name, a in bundle.weights.items()}
    write_bundle(replace(bundle, weights=weights, provenance={"seed": seed}, **changed), folder)
    return folder


def test_the_mean_of_the_weights_and_nothing_else_changes(tmp_path):
    folders = [trained(tmp_path / str(seed), seed) for seed in (1, 2, 3)]
    assert main([*map(str, folders), "--out", str(tmp_path / "mean"), "--days", "0"]) == 0
    found, parts = read_bundle(tmp_path / "mean"), [read_bundle(folder) for folder in folders]
    for name, array in found.weights.items():
        np.testing.assert_allclose(array, np.mean([part.weights[name] for part in parts], axis=0), rtol=1e-6, atol=1e-7)
    assert (found.base, found.margin) == (parts[0].base, parts[0].margin)
    assert found.provenance["averaged_seeds"] == [1, 2, 3]


def test_each_is_compared_with_the_base_rule(tmp_path, capsys):
    assert main([str(trained(tmp_path / "one", 1)), "--out", str(tmp_path / "mean"), "--days", "2"]) == 0
    (one, first), (mean, last) = (line.split() for line in capsys.readouterr().out.splitlines())
    assert (one, mean) == (str(tmp_path / "one"), str(tmp_path / "mean"))
    assert first == last


@pytest.mark.parametrize("how", ["another margin", "another normalisation"])
def test_policies_of_different_starts_are_refused(tmp_path, capsys, how):
    trained(tmp_path / "one", 1)
    if how == "another margin":
        trained(tmp_path / "two", 2, margin=0.2)
    else:
        random_bundle(tmp_path / "two", 2)
    assert main([str(tmp_path / "one"), str(tmp_path / "two"), "--out", str(tmp_path / "mean")]) == 2
    assert "same start" in capsys.readouterr().err
    assert not (tmp_path / "mean").exists()
