"""The command line: it parses what was typed, calls wiring and one feature, and prints.

A command is the module of its name, imported only when it is asked for; its `command` is a function or, where there are
sub-commands, an application. Exit codes: 0 fine, 1 a finding, 2 what was typed cannot be used, 3 a
server that is needed does not answer.

Read first:
    __init__.py  the table of commands, and `main`
    parsing.py   the table as a cyclopts application, help pages, and errors of parsing
    options.py   options that several commands share, and how settings are read with them

Ports: none
Command: `prefect-intelligent --help`
Explained in: docs/reference/cli.md
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import TextIOWrapper

from prefect_intelligent import __version__

PROGRAM = "prefect-intelligent"
SUMMARY = "Steers Prefect work queues and pools by what lateness, failure and capacity cost."
COMMANDS: dict[str, dict[str, str]] = {
    "Steering": {
        "control": "Run the controller of a work pool, look at it, stop it, go back.",
        "explain": "Show the last decision, queue by queue, with its reasons.",
        "why": "Show why a run does not start, the one thing to do, and when it starts otherwise.",
        "doctor": "Look for what would keep steering from working.",
        "terms": "Show what deployments are worth as Prefect knows it, or publish it from the flows.",
        "fleet": "Start and drain process workers on this machine, as many as a pool can use.",
        "init": "Write a commented settings file, and deployments of controller, sync, report, ship and retrain.",
        "config": "Show every setting, its value and what set it.",
    },
    "Simulation and learning": {
        "eta": "Show when runs will start and end, and how likely they are to be late.",
        "what-if": "Show what a change of settings would do to money and lateness.",
        "replay": "Replay the pool's own history under several policies.",
        "promote": "Make a trained policy the champion, if the gate lets it pass, or go back to the one before.",
    },
    "Insight and prevention": {
        "sync": "Copy the server's runs, states, events and settings into the history.",
        "report": "Show waiting, lateness, failures and money by queue, deployment, version and hour.",
        "health": "Show status, score and error budget of each deployment, queue and pool.",
        "alerts": "Show what needs a person; --send opens and resolves alerts as Prefect events.",
        "recommend": "Show what would save money, with evidence from a replay; apply it or undo that.",
        "predict": "Learn from the history how runs fail and how long they take; foretell the live ones.",
        "prevent": "Hold deployments that keep failing, probe them, let them go; shadow unless told to write.",
        "dashboard": "Show the live pool in the browser.",
        "mcp": "Answer assistants over the Model Context Protocol: why, eta, explain, health, report; read-only.",
    },
    "Pipelines": {
        "graph": "Show, check and arrange the pipelines: datasets, deployments and what joins them.",
        "deploy": "Make a version of a flow and bring it to its deployment: swap, drain, restart or canary.",
        "rollback": "Go back to an earlier version of a deployment, or take the last change of a pipeline back.",
        "versions": "List, show, compare, tag and clean up versions of deployments.",
        "modify": "Change a pipeline while it runs; batches in flight end as they began.",
    },
    "Quality and tracking": {
        "quality": "Check data against contracts, remedy it, look at what was set aside.",
        "ship": "Send what was recorded to MLflow, without ever being in the way.",
    },
}
"""Panel of the help page to its commands and their lines of help."""

OPTIONS: dict[str, str] = {
    "--help, -h": "Show this page; after a command, the page of the command.",
    "--version": "Show the version.",
    "--install-completion": "Make the shell complete commands and options: bash, zsh, fish or PowerShell.",
    "--show-completion": "Print the script that --install-completion installs.",
}
"""Options of the program itself, and their lines of help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `prefect-intelligent`; returns the exit code.

    The help page and the version are answered here, from the tables, because importing cyclopts takes longer than
    everything else that they need.
    """
    _accept_any_name()
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--version"]:
        print(f"{PROGRAM} {__version__}")
        return 0
    if words[:1] in (["--help"], ["-h"]):
        print(front_page(), end="")
        return 0
    from prefect_intelligent.cli.parsing import run

    return run(words)


def _accept_any_name() -> None:
    """Let names of any script be printed: what the terminal's encoding lacks is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def front_page() -> str:
    """The help page of the program."""
    from prefect_intelligent.cli.help_page import page

    panels = [(title, list(commands.items())) for title, commands in COMMANDS.items()]
    return page(f"{PROGRAM} COMMAND", SUMMARY, [*panels, ("Options", list(OPTIONS.items()))])
