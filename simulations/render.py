"""Render a world at one instant as text or as a picture: queues with their runs, slots, deadlines, money.

python -m simulations.render --scenario morning-rush --policy prefect-default --policy edf --gif morning.gif
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from prefect_intelligent.domain.spans import describe_span
from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError
from prefect_intelligent.policy.census import Q
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.policy.rule_policy import parse_policy
from prefect_intelligent.twin.model.state import PENDING, RUNNING, WAITING
from prefect_intelligent.twin.simulator import Twin
from simulations.family import SPLITS
from simulations.play import BudgetedLoop
from simulations.scenario import load_scenario, scenario_names
from simulations.workload import Scenario, draw_world

Frame = npt.NDArray[np.uint8]

_CELL: Final = 12
_LANE: Final = 20
_LABEL: Final = 128
_SLOTS: Final = 12
_WAITING: Final = 32
_MARGIN: Final = 10
_WIDTH: Final = _LABEL + (_SLOTS + _WAITING + 1) * _CELL + 5 * _CELL + 2 * _MARGIN
_COLOURS: Final = {
    "ground": (250, 250, 248),
    "slot": (226, 226, 222),
    "calm": (92, 148, 196),
    "soon": (232, 170, 60),
    "late": (198, 60, 56),
    "pending": (150, 150, 150),
    "ink": (50, 50, 50),
    "faint": (120, 120, 116),
}
_SOON_S: Final = 900.0
_DRAIN_HOURS: Final = 48.0
_LEGEND: Final = (
    ("slot", "free slot"),
    ("pending", "starting"),
    ("calm", "has time"),
    ("soon", "due within 15 min"),
    ("late", "late"),
)


def draw_text(twin: Twin, row: int = 0, names: Sequence[str] = ()) -> str:
    """One line per queue in serving order: `#` running, `:` starting, `.` waiting, `!` waiting and late.

    Args:
        twin: The batch.
        row: Row of the world in the batch.
        names: Names of its queues, pool by pool, sorted within a pool; numbers are shown if empty.
    """
    totals, world = twin.state.totals[row], twin.world
    census = twin.census()
    hours = (float(totals["now_s"]) - float(world.settings["start_s"][row])) / 3600.0
    lines = [f"{hours:7.2f} h   {twin.cost(row).total_usd:10.2f} USD   {int(totals['ended'])}/{_count(twin, row)} runs"]
    shown = _names(twin, row, names)
    width = max(len(name) for name in shown.values())
    for pool in range(world.pools.shape[1]):
        table = census.queues[row * world.pools.shape[1] + pool]
        state = twin.state.pools[row, pool]
        lines.append(f"pool {pool}: {int(state['active'])} of {_limit(float(state['limit']))} slots held")
        for queue in sorted(np.flatnonzero(table[:, Q.PRESENT] > 0), key=lambda each: table[each, Q.RANK]):
            cells, lane = table[queue], pool * world.width + int(queue)
            due = "" if np.isinf(cells[Q.DUE_IN_S]) else f"due {_minutes(float(cells[Q.DUE_IN_S]))}"
            lines.append(
                f"  {shown[lane]:{width}} limit {_limit(cells[Q.LIMIT]):>4} waiting {int(cells[Q.WAITING]):4d} "
                f"{due:>12}  {_marks(twin, row, lane)}"
            )
    return "\n".join(lines)


def draw_frame(twin: Twin, row: int = 0, names: Sequence[str] = (), title: str = "") -> Frame:
    """The same as a picture, shape (height, width, 3): a lane per queue in serving order, slots at its left.

    Blue: not due soon; amber: due within 15 minutes; red: late; grey: starting. At the right of a lane stands the
    number of waiting runs that do not fit, else when its first waiting run is due. The bar at the bottom is the share
    of runs that are over.
    """
    world, state = twin.world, twin.state
    shown = _names(twin, row, names)
    lanes = sorted(shown, key=lambda queue: (queue // world.width, state.queues["place"][row, queue]))
    height = _LANE * (len(lanes) + 2) + 8
    picture = Image.new("RGB", (_WIDTH, height), _COLOURS["ground"])
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=11)
    now_s = float(state.totals["now_s"][row])
    held = " + ".join(f"{int(pool['active'])} of {_limit(float(pool['limit']))}" for pool in state.pools[row])
    late = int(np.sum(state.runs["late"][row]))
    pen.text((_MARGIN, 3), f"{datetime.fromtimestamp(now_s, UTC):%H:%M}  {title}", fill=_COLOURS["ink"], font=font)
    status = f"{held} slots    {twin.cost(row).total_usd:8.2f} USD    {late} late now"
    pen.text((_WIDTH - _MARGIN, 3), status, fill=_COLOURS["ink"], font=font, anchor="ra")
    for line, queue in enumerate(lanes, start=1):
        top = _LANE * line + 2
        pen.text((_MARGIN, top), shown[queue][:20], fill=_COLOURS["ink"], font=font)
        _lane(pen, font, twin, row, queue, top)
    over = int(state.totals["ended"][row]) / max(1, _count(twin, row))
    end = _MARGIN + over * (_WIDTH - 2 * _MARGIN)
    pen.rectangle((_MARGIN, height - 16, _WIDTH - _MARGIN, height - 12), fill=_COLOURS["slot"])
    pen.rectangle((_MARGIN, height - 16, end, height - 12), fill=_COLOURS["faint"])
    return np.asarray(picture)


def record(
    scenario: Scenario, policies: Sequence[str], seed: int, every_s: float, until_s: float
) -> Iterator[list[Twin]]:
    """Play one world under several policies; yields the twins every `every_s` until `until_s` or the last end."""
    twins = [Twin(draw_world(scenario, seed)) for _ in policies]
    rules = [parse_policy(text) for text in policies]
    regime = Regime()
    loops = [BudgetedLoop(twin, regime, scenario.budget_slots) for twin in twins]
    now_s = shown_s = scenario.start_s
    yield twins
    while not all(bool(twin.done[0]) for twin in twins) and now_s < until_s:
        now_s += regime.interval_s
        for loop, rule in zip(loops, rules, strict=True):
            loop.step(rule.propose(loop.census), until_s=now_s)
        if now_s >= shown_s + every_s:
            shown_s = now_s
            yield twins


def write_gif(path: Path, frames: Sequence[Frame], *, per_s: float) -> None:
    """Write the frames as an animation, atomically; the last one stays for two seconds."""
    palette = _palette()
    pictures = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    part = path.with_name(path.name + ".part")
    durations = [1000 / per_s] * (len(pictures) - 1) + [2000.0]
    pictures[0].save(
        part, format="GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True
    )
    part.replace(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m simulations.render", description="Look at a scenario.")
    parser.add_argument("--scenario", default="morning-rush", help=f"{', '.join(scenario_names())}, or a TOML file")
    parser.add_argument("--policy", action="append", help="a rule; repeat to see several (default: prefect-default)")
    parser.add_argument("--seed", type=int, default=SPLITS["validation"][0], help="which world")
    parser.add_argument("--every", type=float, default=300.0, metavar="SECONDS", help="time between two frames")
    parser.add_argument("--hours", type=float, metavar="N", help="stop after so many; else when the last run is over")
    parser.add_argument("--gif", type=Path, metavar="FILE", help="write an animation instead of text")
    parser.add_argument("--per-second", type=float, default=10.0, help="frames per second of the animation")
    args = parser.parse_args(argv)
    policies = args.policy or ["prefect-default"]
    try:
        for name in ("every", "per_second", "hours"):
            if (value := getattr(args, name)) is not None and not value > 0:
                raise InvalidInputError(f"--{name.replace('_', '-')}", value, "must be above 0")
        if args.gif is not None and not args.gif.absolute().parent.is_dir():
            raise InvalidInputError("--gif", str(args.gif), "its folder does not exist")
        scenario = load_scenario(args.scenario, args.seed)
        names = [name for pool in scenario.pools for name in sorted(queue.name for queue in pool.queues)]
        hours = scenario.hours + _DRAIN_HOURS if args.hours is None else args.hours
        played = record(scenario, policies, args.seed, args.every, scenario.start_s + hours * 3600.0)
        if args.gif is None:
            for twins in played:
                for text, twin in zip(policies, twins, strict=True):
                    print(f"{text}\n{draw_text(twin, 0, names)}\n")
            return 0
        frames = [_together(twins, policies, names) for twins in played]
        write_gif(args.gif, frames, per_s=args.per_second)
    except PrefectIntelligentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.gif}: {len(frames)} frames, {args.gif.stat().st_size / 1000:.0f} kB")
    return 0


def _together(twins: Sequence[Twin], policies: Sequence[str], names: Sequence[str]) -> Frame:
    """The pictures of all policies, one below the other, with a legend."""
    parts = [draw_frame(twin, 0, names, text) for text, twin in zip(policies, twins, strict=True)]
    legend = Image.new("RGB", (_WIDTH, _LANE), _COLOURS["ground"])
    pen, font, left = ImageDraw.Draw(legend), ImageFont.load_default(size=11), _MARGIN
    for name, words in _LEGEND:
        pen.rectangle((left, 4, left + _CELL - 3, 4 + _CELL - 3), fill=_COLOURS[name])
        pen.text((left + _CELL + 2, 2), words, fill=_COLOURS["faint"], font=font)
        left += _CELL + 16 + int(font.getlength(words))
    words = "left: in a slot, right: waiting, then when the first is due"
    pen.text((_WIDTH - _MARGIN, 2), words, fill=_COLOURS["faint"], font=font, anchor="ra")
    return np.concatenate([*parts, np.asarray(legend)])


def _lane(pen: ImageDraw.ImageDraw, font: Any, twin: Twin, row: int, queue: int, top: int) -> None:
    """Slots, waiting runs and what is due in one queue."""
    limit = float(twin.state.queues["limit"][row, queue])
    active = _runs(twin, row, queue, (PENDING, RUNNING))
    free = int(limit) - len(active) if np.isfinite(limit) else 0
    for place in range(min(_SLOTS, len(active) + max(0, free))):
        colour = _colour(twin, row, int(active[place])) if place < len(active) else _COLOURS["slot"]
        _fill(pen, top, _MARGIN + _LABEL + place * _CELL, colour)
    waiting = _runs(twin, row, queue, (WAITING,))
    for place, run in enumerate(waiting[:_WAITING]):
        _fill(pen, top, _MARGIN + _LABEL + (_SLOTS + 1 + place) * _CELL, _colour(twin, row, int(run)))
    if len(waiting) > _WAITING:
        words = f"+{len(waiting) - _WAITING}"
    elif len(waiting):
        due_s = float(twin.state.runs["due_s"][row][waiting].min() - twin.state.totals["now_s"][row])
        words = "" if np.isinf(due_s) else _minutes(due_s)
    else:
        words = ""
    pen.text((_WIDTH - _MARGIN, top), words, fill=_COLOURS["faint"], font=font, anchor="ra")


def _palette() -> Image.Image:
    """The palette of all frames: the colours, and shades of them for the edges of text."""
    shades = [
        tuple(round(a + (b - a) * step / 6) for a, b in zip(_COLOURS[name], _COLOURS["ground"], strict=True))
        for name in ("ink", "faint")
        for step in range(6)
    ]
    flat = [value for colour in (*_COLOURS.values(), *shades) for value in colour]
    picture = Image.new("P", (1, 1))
    picture.putpalette(flat)
    return picture


def _names(twin: Twin, row: int, names: Sequence[str]) -> dict[int, str]:
    """Index of each queue that exists to its name."""
    present = [queue for queue in range(twin.world.queues.shape[1]) if twin.world.queues["present"][row, queue]]
    return {queue: names[place] if names else f"queue {queue}" for place, queue in enumerate(present)}


def _minutes(seconds: float) -> str:
    """A time from now in words; negative is past."""
    span = describe_span(abs(seconds))
    return f"{span} ago" if seconds < 0 else f"in {span}"


def _count(twin: Twin, row: int) -> int:
    return int(twin.world.settings["runs"][row])


def _limit(value: float) -> str:
    return "none" if np.isinf(value) else f"{value:.0f}"


def _runs(twin: Twin, row: int, queue: int, phases: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Runs of a queue in some phases, in the order they are served."""
    count = _count(twin, row)
    state = twin.state.runs[row, :count]
    chosen = np.flatnonzero((twin.world.runs["queue"][row, :count] == queue) & np.isin(state["phase"], phases))
    order: npt.NDArray[np.int64] = chosen[np.argsort(state["scheduled_s"][chosen], kind="stable")]
    return order


def _marks(twin: Twin, row: int, queue: int) -> str:
    """The runs of a queue as characters, at most 40 of each kind."""
    now_s = float(twin.state.totals["now_s"][row])
    due_s = twin.state.runs["due_s"][row]
    running = "#" * len(_runs(twin, row, queue, (RUNNING,)))
    pending = ":" * len(_runs(twin, row, queue, (PENDING,)))
    waiting = "".join("!" if due_s[run] < now_s else "." for run in _runs(twin, row, queue, (WAITING,))[:40])
    return running[:40] + pending[:40] + " " + waiting


def _colour(twin: Twin, row: int, run: int) -> tuple[int, int, int]:
    state: Any = twin.state.runs[row, run]
    left_s = float(state["due_s"]) - float(twin.state.totals["now_s"][row])
    if left_s < 0:
        return _COLOURS["late"]
    if state["phase"] == PENDING:
        return _COLOURS["pending"]
    return _COLOURS["soon"] if left_s < _SOON_S else _COLOURS["calm"]


def _fill(pen: ImageDraw.ImageDraw, top: int, left: int, colour: tuple[int, int, int]) -> None:
    pen.rectangle((left, top, left + _CELL - 3, top + _CELL - 1), fill=colour)


if __name__ == "__main__":
    sys.exit(main())
