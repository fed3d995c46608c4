"""The whole demo: start the server, play all arms, write the result."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from prefect.client.orchestration import get_client
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from flows.demo.arm import Arm, cycle_of, play_arm, start_controller, start_worker, warm_up
from flows.demo.arm_plan import ArmPlan
from flows.demo.environment import Folders
from flows.demo.outcome import describe, tabulate, warn_if_incomparable
from flows.demo.page import write_html
from flows.demo.pool import SLOTS, DemoPool
from flows.demo.processes import DemoError
from flows.demo.quality import describe_quality, is_as_planted, play_quality
from flows.demo.seed_lake import seed_lake
from flows.demo.server import start_server, wait_for_server
from flows.demo.workload import SMALL_SIZE, Launch, Size, plan_morning
from prefect_intelligent.domain.objective import Prices


def run_demo(
    folders: Folders, port: int, *, arms: Sequence[ArmPlan], seed: int, small: bool, console: Console
) -> dict[str, Any]:
    """Play the demo and write `result.json` and `demo.html` into the output folder.

    Raises:
        DemoError: A process could not be started, or runs failed or did not end; everything has been stopped.
    """
    played: list[Arm] = []
    with ExitStack() as stack:
        progress = stack.enter_context(_progress(console))
        step = Step(progress, "prepare")
        step("a Prefect server starts, the flights are unpacked")
        server = start_server(folders, port)
        stack.callback(server.stop)
        seed_lake(folders.lake("seed"))
        wait_for_server(server, port)
        pool = DemoPool(stack.enter_context(get_client(sync_client=True)))
        pool.build()
        step("the worker starts")
        worker = start_worker(stack, pool, folders)
        launches: list[Launch] = []
        size = SMALL_SIZE
        for plan in arms:
            with ExitStack() as arm_stack:
                pool.reset()
                controller = start_controller(arm_stack, folders, name=plan.name, policy=plan.policy, mode=plan.mode)
                children = (worker, controller)
                if not launches:
                    if not small:
                        step("warming up")
                        size = Size.fit(warm_up(pool, folders, children), SLOTS)
                    step(f"ready, {size.backfill} runs of backfill, a step every {size.step_s:.0f} s", 1, 1)
                    launches = plan_morning(size, seed, small=small)
                step = Step(progress, plan.name)
                arm = play_arm(pool, folders, children, plan, launches, _bind(step, len(launches)))
                if plan.mode == "shadow" and not small and not any(run.late_s > 0 for run in arm.runs):
                    # The machine has become faster: nothing waited in the pool, so the order of runs did not matter.
                    size = Size.fit(cycle_of(arm), SLOTS)
                    launches = plan_morning(size, seed)
                    step(f"nothing had to wait for long; once more, with {size.backfill} runs of backfill")
                    arm = play_arm(pool, folders, children, plan, launches, _bind(step, len(launches)))
                step("done", len(launches), len(launches))
            played.append(replace(arm, restored=pool.is_as_created()))
        if small:
            quality = None
        else:
            step = Step(progress, "quality")
            quality = play_quality(pool, folders, worker, step)
            step("done", 1, 1)
    result = describe(played, Prices(), seed=seed, small=small, size=size)
    if quality is not None:
        result["quality"] = quality
    (folders.output / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (folders.output / "demo.html").write_text(write_html(result), encoding="utf-8")
    console.print(tabulate(result))
    if (warning := warn_if_incomparable(result)) is not None:
        console.print(warning, style="yellow", highlight=False)
    if quality is not None:
        console.print(describe_quality(quality), highlight=False)
        if not is_as_planted(quality):
            raise DemoError(f"the quality gate did not do what it should; see {folders.output / 'result.json'}")
    if failed := sum(run.failed for arm in played for run in arm.runs):
        raise DemoError(f"{failed} runs failed; see {folders.logs} and {folders.output / 'result.json'}")
    return result


class Step:
    """One line of the progress display; without a terminal, a line is printed for every new step.

    Args:
        progress: The display.
        name: Beginning of the line.
    """

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name, self._last = progress, name, ""
        self._task = progress.add_task(name, total=None)

    def __call__(self, what: str, ended: int = 0, total: int | None = None) -> None:
        """Show the current step and its progress."""
        self._progress.update(self._task, description=f"{self._name}: {what}", completed=ended, total=total)
        if what != self._last and not self._progress.console.is_terminal:
            self._progress.console.print(f"{self._name}: {what}")
        self._last = what


def _bind(step: Step, total: int) -> Callable[[str, int], None]:
    """`step` for a known number of runs."""
    return lambda what, ended: step(what, ended, total)


def _progress(console: Console) -> Progress:
    """The live display; silent without a terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal)
