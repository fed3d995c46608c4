"""The cases that policies are evaluated on, each a number of paired episodes.

Splits go by seed: clusters 0 to 999,999 are for training, 1,000,000 on for validation, 2,000,000 on for the test.
Days from `FRESH_DAY` on are never trained on, not even those of training clusters. Recorded workloads are split by
time: the first part is for validation, the last for the test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.twin.model.stacking import stack
from prefect_intelligent.twin.model.world import World
from rl.trace_cases import TRACES, Window, load_factor, trace_windows
from rl.worlds import FRESH_DAY, Workload
from simulations.family import SPLITS
from simulations.scenario import FOLDER, load_scenario
from simulations.workload import Scenario, draw_world

Group = Literal["seen", "unseen", "shifted", "scenario", "trace"]

TRACE_FOLDER: Final = Path(__file__).parents[2] / "shared" / "traces"
"""Default folder of recorded workloads, beside the checkout."""
LOADS: Final = (0.7, 0.95, 1.2)
"""Offered work of a recorded workload over the slots that its pool has at first."""
ACTUATORS: Final = {"small": (3, 8), "large": (8, 32)}
"""Queues and slots of the pool that a recorded workload is run in."""


@dataclass(frozen=True, slots=True)
class Case:
    """Episodes of one kind.

    Attributes:
        name: Its name.
        purpose: What it tests, a sentence.
        group: "seen": fresh days of training clusters; "unseen": clusters that were not trained on; "shifted": beyond
            the bounds of the training; "scenario": a hand-made scenario; "trace": a recorded workload.
        world: The world of episode i.
        most: Number of episodes; None is unlimited.
    """

    name: str
    purpose: str
    group: Group
    world: Callable[[int], World]
    most: int | None = None

    def episodes(self, wanted: int) -> int:
        """How many of the wanted episodes exist."""
        return wanted if self.most is None else min(wanted, self.most)

    def batches(self, episodes: int, size: int = 40) -> Iterator[World]:
        """The first `episodes` episodes, in batches of `size`."""
        count = self.episodes(episodes)
        for first in range(0, count, size):
            yield stack([self.world(number) for number in range(first, min(first + size, count))])


_TRAINED: Final = Workload()


def _variant(**changes: object) -> Workload:
    """The training workload with other bounds."""
    return replace(_TRAINED, family=replace(_TRAINED.family, **changes))  # type: ignore[arg-type]


def _fixed_dial(workload: Workload, weight: float) -> Workload:
    return replace(workload, dial=(weight, weight))


def family_cases(split: str) -> list[Case]:
    """Days of the randomised family: clusters of the split, and variants at and beyond the bounds of the training."""
    first = SPLITS[split].start

    def days(workload: Workload, offset: int) -> Callable[[int], World]:
        return lambda number: workload.world(first + offset + number, 0)

    kinds: list[tuple[str, str, Workload, Group]] = [
        ("unseen", "New clusters like those of the training.", _TRAINED, "unseen"),
        ("cheap-lateness", "The dial at 0.1: capacity matters most.", _fixed_dial(_TRAINED, 0.1), "unseen"),
        ("dear-lateness", "The dial at 3: lateness matters most.", _fixed_dial(_TRAINED, 3.0), "unseen"),
        ("crowded", "More work than the slots that are there at first.", _variant(load=(1.0, 1.4)), "shifted"),
        ("idle", "Little work, so that nothing should be bought.", _variant(load=(0.1, 0.3)), "shifted"),
        ("contention", "Every deployment uses a shared resource.", _variant(contention=1.0), "shifted"),
        ("serverless", "Slots are paid per attempt: the limit costs nothing.", _variant(owned=0.0), "shifted"),
        ("whole-days", "24 hours instead of 8.", _variant(hours=24.0), "shifted"),
        ("24-queues", "Three times the largest number of queues trained on.", _variant(queues=(24, 24)), "shifted"),
    ]
    cases = [Case(name, purpose, group, days(w, 1000 * i)) for i, (name, purpose, w, group) in enumerate(kinds)]
    fresh = SPLITS[split].start + FRESH_DAY  # of no other split
    seen = Case("seen", "Fresh days of training clusters.", "seen", lambda n: _TRAINED.world(n, fresh))
    return [seen, *cases]


def scenario_cases(split: str) -> tuple[list[Case], list[str]]:
    """The hand-made scenarios with one pool, and which were left out and why."""
    cases, left_out = [], []
    for path in sorted(FOLDER.glob("*.toml")):
        scenario = load_scenario(path.stem)
        if len(scenario.pools) > 1:
            left_out.append(f"{path.stem}: has {len(scenario.pools)} pools, and a policy here decides for one")
        else:
            cases.append(_scenario_case(scenario, split))
    return cases, left_out


def _scenario_case(scenario: Scenario, split: str) -> Case:
    first = SPLITS[split].start
    return Case(scenario.name, scenario.purpose, "scenario", lambda number: draw_world(scenario, first + number))


def trace_cases(split: str, folder: Path) -> tuple[list[Case], list[str]]:
    """Every recorded workload at every load with every actuator size, and which were left out and why."""
    cases, left_out = [], []
    for name, trace in TRACES.items():
        if not (folder / trace.file).is_file():
            left_out.append(f"trace {name}: there is no {trace.file} in {folder}; name its folder with --traces")
            continue
        windows = trace_windows(name, folder, split)
        for size, (queues, slots) in ACTUATORS.items():
            for load in LOADS:
                cases.append(_trace_case(f"{name}-{size}-{load:g}", trace.purpose, windows, queues, slots, load))
    return cases, left_out


def _trace_case(name: str, purpose: str, windows: Sequence[Window], queues: int, slots: int, load: float) -> Case:
    def world(number: int) -> World:
        return windows[number].world(queues, slots, load_factor(windows[number].work_s, load * slots), number)

    text = f"{purpose} {queues} queues, {slots} slots, load {load:g}."
    return Case(name, text, "trace", world, most=len(windows))


def file_cases(files: Sequence[str], split: str = "validation") -> list[Case]:
    """Scenarios from files, for example of a calibrated pool.

    Raises:
        InvalidInputError: A scenario has several pools, or cannot be read.
    """
    cases = []
    for name in files:
        scenario = load_scenario(name)
        if len(scenario.pools) > 1:
            raise InvalidInputError(f"scenario {name!r}", f"{len(scenario.pools)} pools", "must have one pool")
        cases.append(_scenario_case(scenario, split))
    return cases


SUITES: Final = ("validation", "test")


def suite(names: Sequence[str], traces: Path = TRACE_FOLDER) -> tuple[list[Case], list[str]]:
    """The cases of a suite or of scenario files, and what was left out and why.

    Args:
        names: "validation", "test", or TOML files of scenarios.
        traces: Folder of recorded workloads.

    Raises:
        UnknownNameError: There is no such suite.
    """
    if len(names) == 1 and names[0] in SUITES:
        split = names[0]
        scenarios, without = scenario_cases(split)
        recorded, missing = trace_cases(split, traces)
        return [*family_cases(split), *scenarios, *recorded], [*without, *missing]
    for name in names:
        if not name.endswith(".toml"):
            raise UnknownNameError("suite", name, (*SUITES, "FILE.toml"))
    return file_cases(names), []
