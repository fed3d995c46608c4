"""Every policy store keeps the same promises: the one in a folder, and the one in MLflow's registry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.model_registry.adapters.folder import PolicyFiles
from prefect_intelligent.model_registry.adapters.mlflow import PolicyRegistry
from prefect_intelligent.model_registry.ports import PolicyStore
from prefect_intelligent.model_registry.promotion import CHALLENGER, CHAMPION, GateEvidence, promote, rollback
from prefect_intelligent.policy.bundle import WEIGHTS, read_bundle
from tests.bundles import random_bundle

GOOD = GateEvidence(
    weights_sha256="", source="test", ratio=0.97, ratio_high=0.99, worst_ratio=1.02, guard_violations=0, episodes=40
)


@pytest.fixture(params=["files", "mlflow"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PolicyStore:
    if request.param == "files":
        return PolicyFiles(tmp_path / "store")
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)  # MLflow keeps artifacts in the working directory
    return PolicyRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", "policy", tmp_path / "cache")


def test_a_policy_store(store: PolicyStore, tmp_path: Path) -> None:
    """In one test, since making MLflow's database takes seconds."""
    assert store.alias(CHAMPION) is None
    assert list(store.past(CHAMPION)) == []
    first = store.add(random_bundle(tmp_path / "1", 1))
    second = store.add(random_bundle(tmp_path / "2", 2))
    assert first != second
    assert store.add(tmp_path / "1") == first
    assert read_bundle(store.folder(first)).name == "bundle-1"
    assert store.weights_sha256(first) != store.weights_sha256(second)
    for call in (store.folder, store.weights_sha256):
        with pytest.raises(UnknownNameError):
            call("none")
    with pytest.raises(UnknownNameError):
        store.set_alias(CHALLENGER, "none", why="", at_s=0.0)
    damaged = random_bundle(tmp_path / "3", 3)
    (damaged / WEIGHTS).write_bytes(b"")
    with pytest.raises(InvalidInputError):
        store.add(damaged)

    def evidence(version: str, **change: float) -> GateEvidence:
        return replace(GOOD, weights_sha256=store.weights_sha256(version), **change)

    refused = promote(store, first, evidence(first, ratio_high=1.01), at_s=1.0, dry_run=False)
    assert (refused.done, store.alias(CHAMPION)) == (False, None)
    assert promote(store, first, evidence(first), at_s=2.0, dry_run=False).done
    with pytest.raises(InvalidInputError, match="no other champion"):
        rollback(store, why="test", at_s=3.0, dry_run=False)
    store.set_alias(CHALLENGER, second, why="new", at_s=3.5)
    promote(store, second, evidence(second), at_s=4.0, dry_run=False)
    assert (store.alias(CHAMPION), store.alias(CHALLENGER)) == (second, second)
    assert rollback(store, why="test", at_s=5.0, dry_run=True).done is False
    assert store.alias(CHAMPION) == second
    assert rollback(store, why="test", at_s=5.0, dry_run=False).after == first
    assert store.alias(CHAMPION) == first
    assert list(store.past(CHAMPION)) == [first, second, first]
