"""`python -m flows.demo`: the demo. Prefect is imported only after `prepare_environment`, whose variables it reads."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from flows.demo.arm_plan import HEADINGS, arms_of, plan_arms
from flows.demo.environment import Folders, prepare_environment
from flows.demo.processes import free_port
from flows.demo.running_processes import refuse_if_up, take_down
from flows.demo.server import api_url_of
from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError

POLICY = "atc"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; exit code 0, 1 if a part of it failed, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m flows.demo", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder for results and logs")
    parser.add_argument("--policy", default=POLICY, help="policy or bundle of the steered arm (default: %(default)s)")
    parser.add_argument("--agent", metavar="FOLDER", help="bundle of a third arm, or none (default: the demo's own)")
    parser.add_argument("--seed", type=int, default=7, help="seed of the offsets (default: %(default)s)")
    parser.add_argument("--small", action="store_true", help="a shorter morning, under a minute")
    parser.add_argument("--up", action="store_true", help="start everything, submit one morning and leave it running")
    parser.add_argument("--down", action="store_true", help="stop what --up has left running")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="only draw FILE (SVG) from result.json")
    args = parser.parse_args(argv)
    console = Console()
    interruption = _Interruption()
    try:
        folders = Folders(output=args.output.absolute())
        if args.picture is not None:
            return _draw(folders, args.picture)
        if args.up or args.down:
            return _keep_running(Folders(output=folders.output / "up"), args, console)
        arms = plan_arms(args.policy, args.agent)
        port = free_port()
        folders.clear()
        prepare_environment(folders, api_url_of(port))
        from flows.demo.run import run_demo

        run_demo(folders, port, arms=arms, seed=args.seed, small=args.small, console=console)
    except InvalidInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except PrefectIntelligentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, RuntimeError):
        if not interruption.came:
            raise
        print("interrupted; everything the demo had started has been stopped", file=sys.stderr)
        return 130
    console.print(f"Page:   {folders.output / 'demo.html'}\nResult: {folders.output / 'result.json'}", soft_wrap=True)
    return 0


def _keep_running(folders: Folders, args: argparse.Namespace, console: Console) -> int:
    """Start everything and leave it, or stop what was left."""
    if args.down:
        take_down(folders, console)
        return 0
    refuse_if_up(folders)
    port = free_port()
    folders.clear()
    prepare_environment(folders, api_url_of(port))
    from flows.demo.keep_running import bring_up

    bring_up(folders, port, policy=args.policy, seed=args.seed, console=console)
    return 0


def _draw(folders: Folders, picture: Path) -> int:
    """Draw the picture of the README from the result of the last demo."""
    from flows.demo.gantt import draw_picture

    path = folders.output / "result.json"
    if not path.exists():
        raise InvalidInputError("--picture", str(path), "no result to draw yet; run the demo first")
    result = json.loads(path.read_text(encoding="utf-8"))
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(draw_picture(result, [(arm, HEADINGS[arm]) for arm in arms_of(result)]), encoding="utf-8")
    return 0


class _Interruption:
    """Treats SIGTERM like ctrl-C, so that all child processes are stopped.

    It remembers the signal, because DuckDB turns a `KeyboardInterrupt` within a query into a `RuntimeError`.
    """

    def __init__(self) -> None:
        self.came = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._interrupt)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
