"""Gradient-boosted trees as plain arrays: trained by scikit-learn, stored as npz, evaluated with NumPy alone.

Serving needs no scikit-learn and unpickles nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from prefect_intelligent.errors import InvalidInputError, MissingExtraError

Array = npt.NDArray[np.float64]
Loss = Literal["log_loss", "squared_error", "quantile"]

_CHUNK_ROWS: Final = 1024
_ARRAYS: Final = ("roots", "feature", "threshold", "children", "missing_left", "value", "weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeParameters:
    """Hyperparameters; the defaults were chosen on a validation cut inside the training part of KTH-SP2."""

    learning_rate: float = 0.03
    iterations: int = 300
    leaves: int = 15
    min_leaf: int = 60
    l2: float = 20.0
    feature_share: float = 0.2


@dataclass(frozen=True, slots=True)
class Trees:
    """A sum of decision trees over rows of features.

    Attributes:
        baseline: Added to every sum.
        roots: Shape (n_trees,), index of each tree's first node.
        feature: Shape (n_nodes,), column that a node tests; 0 at leaves.
        threshold: Shape (n_nodes,), values up to it go left; inf at leaves.
        children: Shape (n_nodes, 2), left and right child; a leaf is its own child.
        missing_left: Shape (n_nodes,), whether NaN goes left.
        value: Shape (n_nodes,), value of a leaf; at inner nodes the mean over their training rows.
        weight: Shape (n_nodes,), training rows that reached the node.
        depth: Number of steps that reach a leaf from any root.
    """

    baseline: float
    roots: npt.NDArray[np.int32]
    feature: npt.NDArray[np.int32]
    threshold: Array
    children: npt.NDArray[np.int32]
    missing_left: npt.NDArray[np.bool_]
    value: Array
    weight: Array
    depth: int

    def predict(self, features: Array) -> Array:
        """The raw sum per row of `features`, shape (n_rows,)."""
        out = np.empty(len(features))
        for start in range(0, len(features), _CHUNK_ROWS):
            rows = features[start : start + _CHUNK_ROWS]
            node = np.broadcast_to(self.roots, (len(rows), len(self.roots)))
            for _ in range(self.depth):
                node = self._step(rows, node)
            out[start : start + _CHUNK_ROWS] = self.baseline + self.value[node].sum(axis=1)
        return out

    def first(self, count: int) -> Trees:
        """The sum of the first trees alone."""
        return replace(self, roots=self.roots[:count])

    def contributions(self, row: Array) -> Array:
        """Contribution of each feature to the prediction of one row, shape (n_features,).

        At each step of the path through a tree, the change of the node's mean is assigned to the feature that the node
        tests. The contributions sum to the prediction minus the mean over the training rows.
        """
        parts = np.zeros(len(row))
        rows, node = row[None, :], self.roots[None, :]
        for _ in range(self.depth):
            after = self._step(rows, node)
            np.add.at(parts, self.feature[node[0]], self.value[after[0]] - self.value[node[0]])
            node = after
        return parts

    def _step(self, rows: Array, node: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        tested = np.take_along_axis(rows, self.feature[node].astype(np.intp), axis=1)
        left = np.where(np.isnan(tested), self.missing_left[node], tested <= self.threshold[node])
        after: npt.NDArray[np.int32] = np.where(left, self.children[node, 0], self.children[node, 1])
        return after

    def arrays(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """The arrays to store, with names that start with `prefix`."""
        kept: dict[str, npt.NDArray[Any]] = {f"{prefix}.{name}": getattr(self, name) for name in _ARRAYS}
        kept[f"{prefix}.head"] = np.array([self.baseline, self.depth])
        return kept

    @classmethod
    def from_arrays(cls, kept: Mapping[str, npt.NDArray[Any]], prefix: str) -> Trees:
        """Inverse of `arrays`.

        Raises:
            InvalidInputError: Arrays are missing or have indices out of range.
        """
        try:
            parts = {name: kept[f"{prefix}.{name}"] for name in _ARRAYS}
            baseline, depth = (float(x) for x in kept[f"{prefix}.head"])
        except (KeyError, ValueError) as error:
            raise InvalidInputError("model", str(error), f"the arrays of {prefix!r} are not complete") from error
        nodes = len(parts["feature"])
        inside = all(((parts[name] >= 0) & (parts[name] < nodes)).all() for name in ("roots", "children"))
        if not inside or any(len(parts[name]) != nodes for name in _ARRAYS[1:]):
            raise InvalidInputError("model", f"{nodes} nodes", f"the arrays of {prefix!r} do not fit together")
        return cls(baseline=baseline, depth=int(depth), **parts)


def fit(
    features: Array,
    target: Array,
    *,
    loss: Loss,
    quantile: float | None = None,
    parameters: TreeParameters | None = None,
    seed: int = 0,
) -> Trees:
    """Fit boosted trees and return them as arrays.

    Args:
        features: Shape (n_rows, n_features); NaN is missing.
        target: Shape (n_rows,); 0 or 1 for `log_loss`.
        loss: Loss to minimise; predictions are log odds for `log_loss`, else in the target's unit.
        quantile: Level for the loss `quantile`, 0 to 1.
        parameters: Hyperparameters.
        seed: Seed of the draw of features at each split.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        AssertionError: The arrays predict something else than scikit-learn (its internals have changed).
    """  # fmt: skip
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtraError("training predictions", "insight") from error
    chosen = parameters or TreeParameters()
    common: dict[str, Any] = {
        "learning_rate": chosen.learning_rate,
        "max_iter": chosen.iterations,
        "max_leaf_nodes": chosen.leaves,
        "min_samples_leaf": max(5, min(chosen.min_leaf, len(features) // 40)),
        "l2_regularization": chosen.l2,
        "max_features": chosen.feature_share,
        "early_stopping": False,
        "random_state": seed,
    }
    known = np.where(np.isnan(features).all(axis=0), 0.0, features)  # a column without any value cannot be binned
    # Below some 100,000 rows threads are slower than one thread, above all beside a busy scheduler.
    with threadpool_limits(limits=1 if len(features) < 100_000 else None, user_api="openmp"):
        if loss == "log_loss":
            model = HistGradientBoostingClassifier(**common).fit(known, target)
            expected = model.decision_function(known[:256])
        else:
            model = HistGradientBoostingRegressor(loss=loss, quantile=quantile, **common).fit(known, target)
            expected = model.predict(known[:256])
    trees = _to_arrays(model)
    assert np.allclose(trees.predict(known[:256]), expected, rtol=1e-7, atol=1e-7), "arrays differ from scikit-learn"
    return trees


def _to_arrays(model: Any) -> Trees:
    """The trees of a fitted HistGradientBoosting model (its `_predictors` hold them as structured arrays)."""
    parts = [stage[0].nodes for stage in model._predictors]
    sizes = np.array([len(nodes) for nodes in parts])
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    nodes = np.concatenate(parts)
    offset = np.repeat(roots, sizes)
    leaf = nodes["is_leaf"].astype(bool)
    own = np.arange(len(nodes))
    children = np.stack(
        [np.where(leaf, own, nodes[side].astype(np.int64) + offset) for side in ("left", "right")], axis=1
    ).astype(np.int32)
    weight = nodes["count"].astype(float)
    value = np.where(leaf, nodes["value"], 0.0)
    for at in np.flatnonzero(~leaf)[::-1]:  # children come after their parent, so backwards is bottom up
        below = children[at]
        value[at] = np.average(value[below], weights=weight[below])
    return Trees(
        baseline=float(np.ravel(model._baseline_prediction)[0]),
        roots=roots.astype(np.int32),
        feature=np.where(leaf, 0, nodes["feature_idx"]).astype(np.int32),
        threshold=np.where(leaf, np.inf, nodes["num_threshold"]),
        children=children,
        missing_left=nodes["missing_go_to_left"].astype(bool),
        value=value,
        weight=weight,
        depth=int(nodes["depth"].max()),
    )
