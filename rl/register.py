"""Register a bundle in MLflow's model registry, with its figures per workload.

    python -m rl.register BUNDLE --report rl/results/2026-01-31-abc/validation/report.json [--alias challenger]

MLflow's page of models compares versions that were evaluated on the same data, one block of columns per workload.
Nothing is promoted here; `prefect-intelligent promote` does that if the promotion gate passes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError
from prefect_intelligent.model_registry.promotion import CHALLENGER
from prefect_intelligent.policy.bundle import MANIFEST
from prefect_intelligent.settings import load_settings
from prefect_intelligent.wiring.model_registry import REGISTERED_NAME, PolicyRegistry, Scores, open_registry
from rl.comparisons import TUNED

_MEANS = ("cost_usd", "miss_rate", "wait_p95_s", "late_cvar95_s")


def scores_of(report: Mapping[str, Any], files: tuple[Path, ...] = ()) -> Scores:
    """Figures per workload of the first policy of a report of `rl.evaluate`.

    Raises:
        InvalidInputError: It is no such report.
    """
    try:
        context, figures = report["context"], report["figures"]
        ours, groups = context["ours"], context["groups"]
        workloads: dict[str, dict[str, float]] = {}
        for group in sorted(set(groups.values())):
            cases = [context["means"][case][ours] for case, its in groups.items() if its == group]
            workloads[group] = {name: sum(case[name] for case in cases) / len(cases) for name in _MEANS}
            for rival, name in ((TUNED, "ratio_vs_tuned"), (context["best_rule"], "ratio_vs_best_rule")):
                if rival in context["against"]:
                    workloads[group][name] = context["against"][rival]["groups"][group]["value"]
        text = f"{context['verdict']} on suite {context['suite']}, commit {context['commit']}"
        return Scores(data=context["data_sha256"], by_workload=workloads, overall=figures, text=text, files=files)
    except (KeyError, TypeError) as error:
        raise InvalidInputError("report", f"lacks {error}", "needs the JSON that rl.evaluate writes") from error


def register(registry: PolicyRegistry, bundle: Path, report: Path | None, alias: str | None) -> str:
    """Register a bundle with the figures of a report; returns the version.

    Raises:
        InvalidInputError: The bundle cannot be read, or the report is about other weights.
    """
    scores = None
    if report is not None:
        found = _read(report)
        about = (found.get("context") or {}).get("weights_sha256")
        sha256 = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))["weights_sha256"]
        if about is not None and about != sha256:
            raise InvalidInputError("--report", f"about weights {about[:12]}", f"the bundle has {sha256[:12]}")
        files = tuple(path for path in sorted(report.parent.iterdir()) if path.suffix in (".json", ".md", ".png"))
        scores = scores_of(found, files)
    version = registry.add(bundle)
    if scores is not None:
        registry.record(version, scores)
    if alias is not None:
        registry.set_alias(alias, version, why=scores.text if scores else "registered", at_s=time.time())
    return version


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInputError("--report", str(path), f"must be a JSON report ({error})") from error
    if not isinstance(found, dict):
        raise InvalidInputError("--report", str(path), "must be a JSON object")
    return found


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m rl.register`."""
    parser = argparse.ArgumentParser(prog="python -m rl.register", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("bundle", type=Path, help="folder with manifest.json and weights.npz")
    parser.add_argument("--report", type=Path, help="report.json of rl.evaluate about this bundle")
    parser.add_argument("--alias", choices=(CHALLENGER,), help="also make it the challenger")
    parser.add_argument("--name", default=REGISTERED_NAME, help=f"registered model (default: {REGISTERED_NAME})")
    parser.add_argument("--tracking-uri", help="MLflow (default: MLFLOW_TRACKING_URI, else the data folder's)")
    args = parser.parse_args(argv)
    try:
        registry = open_registry(load_settings().settings, args.name, uri=args.tracking_uri)
        version = register(registry, args.bundle, args.report, args.alias)
    except (PrefectIntelligentError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.name} version {version} in {registry.uri}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
