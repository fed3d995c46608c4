"""The command line: parse, call wiring, print.

Each command is a module of this package with `configure(parser)` and `run(args) -> int`; it is imported only when it is
asked for. Exit codes: 0 fine, 1 a finding, 2 what was typed cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from prefect_intelligent import __version__
from prefect_intelligent.errors import PrefectIntelligentError

_COMMANDS: dict[str, str] = {
    "control": "Run the controller of a work pool, look at it, stop it, go back.",
    "explain": "Show the last decision, queue by queue, with its reasons.",
    "doctor": "Look for what would keep steering from working.",
    "terms": "Show what deployments are worth as Prefect knows it, or publish it from the flows.",
    "config": "Show every setting, its value and what set it.",
    "eta": "Show when runs will start and end, and how likely they are to be late.",
    "what-if": "Show what a change of settings would do to money and lateness.",
    "replay": "Replay the pool's own history under several policies.",
    "promote": "Make a trained policy the champion, if the gate lets it pass, or go back to the one before.",
    "sync": "Copy the server's runs, states, events and settings into the history.",
    "report": "Show waiting, lateness, failures and money by queue, deployment, version and hour.",
    "health": "Show status, score and error budget of each deployment, queue and pool.",
    "alerts": "Show what needs a person; --send opens and resolves alerts as Prefect events.",
    "recommend": "Show what would save money, with evidence from a replay; apply it or undo that.",
    "predict": "Learn from the history how runs fail and how long they take; foretell the live ones.",
    "prevent": "Hold deployments that keep failing, probe them, let them go; shadow unless told to write.",
    "dashboard": "Show the live pool in the browser.",
    "graph": "Show, check and arrange the pipelines: datasets, deployments and what joins them.",
    "deploy": "Make a version of a flow and bring it to its deployment: swap, drain, restart or canary.",
    "rollback": "Go back to an earlier version of a deployment, or take the last change of a pipeline back.",
    "versions": "List, show, compare, tag and clean up versions of deployments.",
    "modify": "Change a pipeline while it runs; batches in flight end as they began.",
    "quality": "Check data against contracts, remedy it, look at what was set aside.",
    "ship": "Send what was recorded to MLflow, without ever being in the way.",
}
"""Command to its line of help; the module is `prefect_intelligent.cli.<command>` with dashes as underscores."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong on one line, as everything else of ours does."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"error: {message}; see `{self.prog} --help`\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `prefect-intelligent`; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = _Parser(
        prog="prefect-intelligent",
        description="Steers Prefect work queues and pools by what lateness, failure and capacity cost.",
    )
    parser.add_argument("--version", action="version", version=f"prefect-intelligent {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    asked = next((word for word in words if not word.startswith("-")), None)
    for name, summary in _COMMANDS.items():
        sub = subparsers.add_parser(name, help=summary, description=summary)
        if name == asked:
            module = import_module(f"{__name__}.{name}".replace("-", "_"))
            module.configure(sub)
            sub.set_defaults(run=module.run)
    try:
        args = parser.parse_args(words)
    except SystemExit as stop:  # --help, --version, or what was typed cannot be read
        return int(stop.code or 0)
    try:
        code: int = args.run(args)
    except PrefectIntelligentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return code
