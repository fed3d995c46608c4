"""`prefect-intelligent doctor`: what would keep steering from working."""

from __future__ import annotations

import argparse

from prefect_intelligent.cli.options import add_config, add_json, add_pool, chosen_pool, print_json, read_settings

_STYLES = {"fine": "green", "note": "yellow", "problem": "red"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_pool(parser)
    add_config(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print what was looked at; exit code 1 if there is a problem."""
    from prefect_intelligent.wiring.preflight import run_preflight

    loaded = read_settings(args, ("pool",))
    findings = list(run_preflight(loaded.settings, chosen_pool(loaded)))
    if args.json:
        print_json({"findings": [{"level": f.level, "what": f.what, "advice": f.advice} for f in findings]})
    else:
        from rich.text import Text

        from prefect_intelligent.cli import formatting

        for finding in findings:
            line = Text.assemble((f"{finding.level:<8}", _STYLES[finding.level]), finding.what)
            formatting.console.print(line, soft_wrap=True)
            if finding.advice:
                formatting.console.print(f"        -> {finding.advice}", soft_wrap=True, highlight=False)
    return 1 if any(finding.level == "problem" for finding in findings) else 0
