"""`prefect-intelligent deploy`: make a version of a flow and bring it to its deployment."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from prefect_intelligent.cli.options import (
    AllowDirty,
    Config,
    Int,
    Json,
    Source,
    print_json,
    read_pairs,
    read_settings,
    tell_finished,
)
from prefect_intelligent.domain.spans import parse_span
from prefect_intelligent.errors import InvalidInputError

if TYPE_CHECKING:
    from prefect_intelligent.pipelines.conflicts import Finding
    from prefect_intelligent.pipelines.rollout.canary import CanaryStatus
    from prefect_intelligent.pipelines.version import DeploymentVersion
    from prefect_intelligent.wiring.pipelines import PipelineWorkspace

Strategy = Literal["swap", "drain", "restart", "canary"]
Scheduled = Literal["new", "old"]
Begin = Literal["first", "failed"]


def command(
    entrypoint: Annotated[str, Parameter(name="ENTRYPOINT", metavar="FILE.py:FLOW", help="relative to --source")],
    /,
    *,
    config: Config = None,
    as_json: Json = False,
    name: Annotated[str, Parameter(metavar="NAME", help="name of the deployment")],
    source: Source = Path("."),
    allow_dirty: AllowDirty = False,
    work_pool: Annotated[
        str | None, Parameter(metavar="NAME", help="work pool (default: that of the deployment)")
    ] = None,
    work_queue: Annotated[
        str | None, Parameter(metavar="NAME", help="work queue (default: that of the deployment)")
    ] = None,
    param: Annotated[tuple[str, ...], Parameter(metavar="NAME=JSON", help="default parameter")] = (),
    job_variable: Annotated[tuple[str, ...], Parameter(metavar="NAME=JSON", help="job variable")] = (),
    cron: Annotated[list[str] | None, Parameter(metavar="LINE", help="schedules that replace the deployment's")] = None,
    limit: Annotated[Int | None, Parameter(metavar="LIMIT", help="concurrency limit of the deployment")] = None,
    strategy: Annotated[Strategy, Parameter(help="how it comes to its deployment (default swap)")] = "swap",
    scheduled: Annotated[Scheduled, Parameter(help="swap: what waiting runs execute")] = "new",
    begin: Annotated[Begin, Parameter(help="restart: from which step")] = "first",
    share: Annotated[str, Parameter(metavar="PERCENT", help="canary: share of the runs (default 20%)")] = "20%",
    max_runs: Annotated[
        Int, Parameter(metavar="MAX_RUNS", help="canary: promote after so many good runs (default 50)")
    ] = 50,
    timeout: Annotated[str, Parameter(metavar="SPAN", help="canary, drain and trial: patience (default 1h)")] = "1h",
    trial: Annotated[bool, Parameter(help="run it once in a scratch lane first")] = False,
    force: Annotated[bool, Parameter(help="deploy although it brings conflicts")] = False,
    dry_run: Annotated[bool, Parameter(help="only make and check the version")] = False,
) -> int:
    """Make, check and bring the version."""
    from prefect_intelligent.pipelines.rollout.trial_run import run_trial
    from prefect_intelligent.pipelines.version import SHORT
    from prefect_intelligent.wiring.pipeline_versions import Request, make_version, new_findings
    from prefect_intelligent.wiring.pipelines import open_workspace

    workspace = open_workspace(read_settings(config).settings)
    share_of_runs, timeout_s = read_share(share), parse_span(timeout, what="--timeout")
    request = Request(
        entrypoint=entrypoint,
        name=name,
        source=source.resolve(),
        pool=work_pool,
        queue=work_queue,
        parameters=read_pairs("--param", param),
        job_variables=read_pairs("--job-variable", job_variable),
        crons=cron,
        limit=limit,
        allow_dirty=allow_dirty,
    )
    with workspace.exclusive() as finished:
        tell_finished(finished)
        version = make_version(workspace, request)
        findings = new_findings(workspace.model(history=False), version)
        for finding in findings:
            print(f"conflict {finding.rule}: {finding.evidence}", file=sys.stderr if as_json else sys.stdout)
        if dry_run or (findings and not force):
            _report_kept_back(version, findings, force=force, as_json=as_json)
            return 1 if findings and not force else 0
        workspace.rollout.keep_current(version.deployment, version.author)
        version = workspace.versions.keep(version)
        if trial:
            run_trial(workspace.rollout, version, {}, timeout_s)
        canary = None
        if strategy == "canary":
            canary = _try_canary(workspace, version, share_of_runs, max_runs, timeout_s, as_json=as_json)
        elif strategy == "swap":
            workspace.rollout.swap(version, scheduled=scheduled)
        elif strategy == "drain":
            workspace.rollout.drain(version, timeout_s)
        else:
            again = workspace.rollout.restart(version, begin)
            print(f"{again} runs start again", file=sys.stderr if as_json else sys.stdout)
    promoted = canary is None or canary.verdict == "promote"
    if as_json:
        result: dict[str, Any] = {"deployment": version.deployment, "version": version.id, "in_force": promoted}
        if canary is not None:
            result |= {"canary_runs": canary.canary_runs, "stable_runs": canary.stable_runs}
        print_json(result)
    elif promoted:
        print(f"{version.deployment} runs {version.id[:SHORT]}")
    elif canary is not None:
        print(f"{version.id[:SHORT]} was rolled back after {canary.canary_runs} canary runs")
    return 0 if promoted else 1


def _report_kept_back(version: DeploymentVersion, findings: Sequence[Finding], *, force: bool, as_json: bool) -> None:
    from prefect_intelligent.pipelines.version import SHORT

    if as_json:
        found = [finding.to_dict() for finding in findings]
        print_json({"deployment": version.deployment, "version": version.id, "in_force": False, "findings": found})
    elif findings and not force:
        print("nothing was deployed (--force deploys all the same)")
    else:
        print(f"would deploy {version.deployment} as {version.id[:SHORT]}")


def _try_canary(
    workspace: PipelineWorkspace,
    version: DeploymentVersion,
    share: float,
    max_runs: int,
    timeout_s: float,
    *,
    as_json: bool,
) -> CanaryStatus:
    from prefect_intelligent.pipelines.rollout.canary import run_canary
    from prefect_intelligent.pipelines.sprt import SprtConfig
    from prefect_intelligent.quality.run_scores import RunQuality

    return run_canary(
        workspace.rollout,
        version,
        share=share,
        config=SprtConfig(max_runs=max_runs),
        timeout_s=timeout_s,
        prices=workspace.settings.prices_of(version.spec["work_pool_name"]),
        quality=RunQuality(workspace.history, workspace.clock),
        on_update=(lambda state: None) if as_json else _Progress(),
    )


class _Progress:
    """Prints a line whenever a canary run has ended."""

    def __init__(self) -> None:
        self.seen = -1

    def __call__(self, state: CanaryStatus) -> None:
        """Print the state if it is new."""
        if state.canary_runs != self.seen:
            self.seen = state.canary_runs
            bad = ", ".join(f"{m.measure} {m.bad}/{m.runs} bad" for m in state.measures)
            print(
                f"{state.canary_runs} canary, {state.stable_runs} stable runs: {bad or 'nothing yet'}; {state.verdict}"
            )


def read_share(text: str) -> float:
    """A share such as "20%" or "0.2".

    Raises:
        InvalidInputError: It is neither.
    """
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise InvalidInputError("--share", text, "expected a share such as 20% or 0.2") from error
