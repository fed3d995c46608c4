"""`prefect-intelligent doctor`: what would keep steering from working."""

from __future__ import annotations

from prefect_intelligent.cli.options import Config, Json, Pool, print_json, settings_and_pool

_STYLES = {"fine": "green", "note": "yellow", "problem": "red"}


def command(*, pool: Pool = None, config: Config = None, as_json: Json = False) -> int:
    """Print what was looked at; exit code 1 if there is a problem."""
    from prefect_intelligent.wiring.preflight import run_preflight

    findings = list(run_preflight(*settings_and_pool(config, pool)))
    if as_json:
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
