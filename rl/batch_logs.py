"""Random days like the logs of batch clusters: nothing is scheduled ahead, runs arrive in batches, tails are heavy.

The randomised family draws pools as Prefect teams run them. Recorded workloads differ from it, and a policy that was
tuned and trained on the family alone gains nothing on them, so training mixes in days of this kind. No record is used:
the bounds follow what public logs have in common. Gaps between arrivals have a coefficient of variation of 4 and more,
up to half of the runs arrive in the same second as another, the mean duration is many times the median, submitters
differ by orders of magnitude, and their next duration is predicted from their last ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from prefect_intelligent.domain import Prices
from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.model.world import World
from prefect_intelligent.twin.spec import PoolSpec
from rl.trace_cases import HOURS, Window, load_factor, past_estimates

_LARGEST_BATCH: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLogs:
    """Bounds of the draws.

    Attributes:
        queues: Least and largest number of queues.
        slots: Least and largest number of slots at the beginning.
        load: Range of the offered work over what those slots can do.
        runs: Least and largest number of runs in a day.
    """

    queues: tuple[int, int] = (2, 12)
    slots: tuple[int, int] = (4, 32)
    load: tuple[float, float] = (0.3, 1.3)
    runs: tuple[int, int] = (120, 500)

    def world(self, seed: int, day: int = 0) -> World:
        """A day in the cluster of a seed."""
        cluster = np.random.default_rng([seed, 19])
        queues = int(cluster.integers(self.queues[0], self.queues[1] + 1))
        slots = round(float(np.exp(cluster.uniform(*np.log(self.slots)))))
        count = round(float(np.exp(cluster.uniform(*np.log(self.runs)))))
        pool = _pool(queues, slots, cluster)
        window = draw_window(count, np.random.default_rng([seed, day, 23]), cluster)
        factor = load_factor(window.work_s, float(cluster.uniform(*self.load)) * slots)
        return window.world(queues, slots, factor, seed * 1009 + day, pool)


def _pool(queues: int, slots: int, rng: np.random.Generator) -> PoolSpec:
    """A pool of `slots` slots with infrastructure and prices drawn as in the family; queues as in `Window.queues`."""
    owned = bool(rng.uniform() < 0.8)
    return PoolSpec(
        queues=Window.queues(queues),
        limit=slots,
        prices=Prices(
            slot_usd_per_hour=float(np.exp(rng.uniform(np.log(0.05), np.log(0.5)))),
            min_billing_s=0.0 if owned else 60.0,
            idle_fraction=float(rng.choice([1.0, 1.0, 0.5])) if owned else 0.0,
        ),
        owned=owned,
        max_slots=4 * slots,
        boot_s=float(rng.choice([0.0, 60.0, 120.0, 300.0])) if owned else 0.0,
        cooldown_s=float(rng.choice([0.0, 60.0, 300.0])) if owned else 0.0,
        poll_s=float(rng.choice([2.0, 5.0, 10.0])),
        startup_s=float(np.exp(rng.uniform(np.log(2.0), np.log(45.0)))),
        startup_spread=float(rng.uniform(0.1, 0.6)),
    )


def draw_window(count: int, rng: np.random.Generator, cluster: np.random.Generator) -> Window:
    """Draw `count` consecutive runs, and as many before them, from which their durations are predicted.

    Args:
        count: Runs of the window.
        rng: Draws the day.
        cluster: Draws what is the same on all days: submitters, their typical durations and rates.
    """
    users = int(np.exp(cluster.uniform(np.log(2.0), np.log(80.0))))
    weight = np.arange(1, users + 1) ** -float(cluster.uniform(0.5, 1.6))
    typical = cluster.normal(np.log(600.0), cluster.uniform(0.8, 2.8), users)
    single = cluster.uniform(0.2, 0.95)  # chance that a batch is a single run
    shape = cluster.uniform(0.8, 2.0)  # of the Pareto tail of the sizes of all other batches
    gap_sigma = cluster.uniform(0.6, 2.2)  # log standard deviation of the gaps between batches
    # Log standard deviations of the durations: of the medians of batches, and of runs inside a batch.
    between, within = cluster.uniform(0.2, 2.6), cluster.uniform(0.1, 1.8)
    fails = float(cluster.choice([0.0, 0.0, 0.1, 0.3]))

    total = 2 * count
    at_s, work, key = np.empty(total), np.empty(total), np.empty(total)
    now_s, first, submitter = 0.0, 0, 0
    while first < total:
        now_s += float(np.exp(gap_sigma * rng.standard_normal()))
        if first == 0 or rng.uniform() < 0.6:
            submitter = int(rng.choice(users, p=weight / weight.sum()))
        size = 1 if rng.uniform() < single else 1 + min(_LARGEST_BATCH, int(2.0 * (1.0 + rng.pareto(shape))))
        last = min(total, first + size)
        together = rng.uniform() < 0.5
        at_s[first:last] = now_s + (0.0 if together else 0.02 * np.arange(last - first))
        median = typical[submitter] + between * rng.standard_normal()
        work[first:last] = np.exp(median + within * rng.standard_normal(last - first))
        key[first:last] = submitter
        now_s = float(at_s[last - 1])
        first = last
    return _second_half(at_s, np.maximum(work, 1.0), key, rng.uniform(size=total) < fails)


def _second_half(at_s: Array, work_s: Array, key: Array, failed: npt.NDArray[np.bool_]) -> Window:
    """The later half of the runs as a window of `HOURS`; the earlier half, on the same time scale, is the history."""
    count = len(at_s) // 2
    scale = HOURS * 3600.0 / max(at_s[-1] - at_s[count], 1e-6)
    submit = np.sort(at_s) * scale
    expected, spread = past_estimates(submit, work_s, key)
    return Window(
        submit_s=submit[count:] - submit[count],
        work_s=work_s[count:],
        expected_s=expected[count:],
        spread=spread[count:],
        failed=failed[count:],
        key=key[count:],
    )
