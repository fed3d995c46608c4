"""`prefect-intelligent why`: why a run does not start, the one thing to do, and when it starts otherwise."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Json, print_json, read_settings


def command(
    subject: Annotated[
        str, Parameter(name="RUN|DEPLOYMENT", help='id or name of a flow run, or "flow/deployment" for its next run')
    ],
    /,
    *,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Print the chain of reasons; exit code 1 if it does not start until somebody does something."""
    from prefect_intelligent.wiring.blocking import explain_why

    verdict = explain_why(read_settings(config).settings, subject)
    if as_json:
        print_json(verdict.to_dict())
    else:
        print("\n".join(verdict.lines))
    return int(verdict.never)
