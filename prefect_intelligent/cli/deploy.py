"""`prefect-intelligent deploy`: make a version of a flow and bring it to its deployment."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect_intelligent.cli.options import add_config, add_json, print_json, read_settings, tell_finished
from prefect_intelligent.domain.deadlines import parse_span
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.pipelines.conflicts import Finding
from prefect_intelligent.pipelines.rollout.canary import CanaryStatus, run_canary
from prefect_intelligent.pipelines.rollout.trial_run import run_trial
from prefect_intelligent.pipelines.sprt import SprtConfig
from prefect_intelligent.pipelines.version import SHORT, DeploymentVersion
from prefect_intelligent.quality.run_scores import RunQuality
from prefect_intelligent.wiring.pipeline_versions import Request, make_version, new_findings
from prefect_intelligent.wiring.pipelines import PipelineWorkspace, open_workspace


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_config(parser)
    add_json(parser)
    parser.add_argument("entrypoint", metavar="FILE.py:FLOW", help="relative to --source")
    parser.add_argument("--name", required=True, help="name of the deployment")
    add_source(parser)
    parser.add_argument("--work-pool", metavar="NAME", help="work pool (default: that of the deployment)")
    parser.add_argument("--work-queue", metavar="NAME", help="work queue (default: that of the deployment)")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=JSON", help="default parameter")
    parser.add_argument("--job-variable", action="append", default=[], metavar="NAME=JSON")
    parser.add_argument("--cron", action="append", metavar="LINE", help="schedules that replace the deployment's")
    parser.add_argument("--limit", type=int, help="concurrency limit of the deployment")
    parser.add_argument("--strategy", choices=("swap", "drain", "restart", "canary"), default="swap")
    parser.add_argument("--scheduled", choices=("new", "old"), default="new", help="swap: what waiting runs execute")
    parser.add_argument("--begin", choices=("first", "failed"), default="first", help="restart: from which step")
    parser.add_argument("--share", default="20%", metavar="PERCENT", help="canary: share of the runs (default 20%%)")
    parser.add_argument("--max-runs", type=int, default=50, help="canary: promote after so many good runs (default 50)")
    parser.add_argument(
        "--timeout", default="1h", metavar="SPAN", help="canary, drain and trial: patience (default 1h)"
    )
    parser.add_argument("--trial", action="store_true", help="run it once in a scratch lane first")
    parser.add_argument("--force", action="store_true", help="deploy although it brings conflicts")
    parser.add_argument("--dry-run", action="store_true", help="only make and check the version")


def add_source(parser: argparse.ArgumentParser) -> None:
    """`--source` and `--allow-dirty`."""
    parser.add_argument("--source", type=Path, default=Path("."), metavar="FOLDER", help="the code (default: here)")
    parser.add_argument("--allow-dirty", action="store_true", help="take uncommitted changes and record them")


def run(args: argparse.Namespace) -> int:
    """Make, check and bring the version."""
    workspace = open_workspace(read_settings(args).settings)
    share, timeout_s = read_share(args.share), parse_span(args.timeout, what="--timeout")
    request = Request(
        entrypoint=args.entrypoint,
        name=args.name,
        source=args.source.resolve(),
        pool=args.work_pool,
        queue=args.work_queue,
        parameters=read_pairs("--param", args.param),
        job_variables=read_pairs("--job-variable", args.job_variable),
        crons=args.cron,
        limit=args.limit,
        allow_dirty=args.allow_dirty,
    )
    with workspace.exclusive() as finished:
        tell_finished(finished)
        version = make_version(workspace, request)
        findings = new_findings(workspace.model(history=False), version)
        for finding in findings:
            print(f"conflict {finding.rule}: {finding.evidence}", file=sys.stderr if args.json else sys.stdout)
        if args.dry_run or (findings and not args.force):
            _report_kept_back(version, findings, args)
            return 1 if findings and not args.force else 0
        workspace.rollout.keep_current(version.deployment, version.author)
        version = workspace.versions.keep(version)
        if args.trial:
            run_trial(workspace.rollout, version, {}, timeout_s)
        canary = _bring(workspace, version, args, share, timeout_s)
    promoted = canary is None or canary.verdict == "promote"
    if args.json:
        result: dict[str, Any] = {"deployment": version.deployment, "version": version.id, "in_force": promoted}
        if canary is not None:
            result |= {"canary_runs": canary.canary_runs, "stable_runs": canary.stable_runs}
        print_json(result)
    elif promoted:
        print(f"{version.deployment} runs {version.id[:SHORT]}")
    elif canary is not None:
        print(f"{version.id[:SHORT]} was rolled back after {canary.canary_runs} canary runs")
    return 0 if promoted else 1


def _report_kept_back(version: DeploymentVersion, findings: Sequence[Finding], args: argparse.Namespace) -> None:
    if args.json:
        found = [finding.to_dict() for finding in findings]
        print_json({"deployment": version.deployment, "version": version.id, "in_force": False, "findings": found})
    elif findings and not args.force:
        print("nothing was deployed (--force deploys all the same)")
    else:
        print(f"would deploy {version.deployment} as {version.id[:SHORT]}")


def _bring(
    workspace: PipelineWorkspace, version: DeploymentVersion, args: argparse.Namespace, share: float, timeout_s: float
) -> CanaryStatus | None:
    rollout = workspace.rollout
    if args.strategy == "swap":
        rollout.swap(version, scheduled=args.scheduled)
    elif args.strategy == "drain":
        rollout.drain(version, timeout_s)
    elif args.strategy == "restart":
        again = rollout.restart(version, args.begin)
        print(f"{again} runs start again", file=sys.stderr if args.json else sys.stdout)
    else:
        prices = workspace.settings.prices_of(version.spec["work_pool_name"])
        trial = SprtConfig(max_runs=args.max_runs)
        tell = (lambda state: None) if args.json else _Progress()
        quality = RunQuality(workspace.history, workspace.clock)
        return run_canary(
            rollout,
            version,
            share=share,
            config=trial,
            timeout_s=timeout_s,
            prices=prices,
            quality=quality,
            on_update=tell,
        )
    return None


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


def read_pairs(option: str, texts: Sequence[str]) -> Mapping[str, Any]:
    """`NAME=JSON` options as a mapping; a value that is not JSON is text.

    Raises:
        InvalidInputError: One has no equals sign.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise InvalidInputError(option, text, "expected NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found
