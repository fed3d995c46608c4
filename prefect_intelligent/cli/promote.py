"""`prefect-intelligent promote BUNDLE`: make a bundle the champion, if the gate lets it pass; `--back` returns."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from prefect_intelligent.cli.options import add_config, add_json, add_pool, chosen_pool, print_json, read_settings
from prefect_intelligent.domain import parse_span
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.settings import Loaded

if TYPE_CHECKING:
    from prefect_intelligent.model_registry.promotion import GateEvidence


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("bundle", nargs="?", type=Path, help="folder with manifest.json and weights.npz")
    parser.add_argument("--evidence", type=Path, metavar="FILE", help="report of `python -m rl.evaluate --json`")
    parser.add_argument("--replay", metavar="SPAN", help="replay so much of the pool's history as evidence, e.g. 14d")
    parser.add_argument("--recording", type=Path, metavar="FILE", help="replay this recording as evidence instead")
    parser.add_argument("--back", action="store_true", help="go back to the champion before this one instead")
    parser.add_argument("--why", default="asked for on the command line", help="reason for going back, for the record")
    parser.add_argument("--apply", action="store_true", help="move the alias; without it only say what would happen")
    add_pool(parser)
    add_config(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Ask the gate; exit code 1 if it refuses."""
    if args.back:
        return _back(args)
    given = [source for source in (args.evidence, args.replay, args.recording) if source is not None]
    if args.bundle is None or len(given) != 1:
        raise InvalidInputError(
            "promote", None, "name a bundle and one of --evidence, --replay and --recording, or give --back"
        )
    from prefect_intelligent.model_registry.promotion import GateEvidence, check_gate, promote
    from prefect_intelligent.policy.bundle import MANIFEST, read_bundle
    from prefect_intelligent.wiring.model_registry import open_policy_store

    loaded = read_settings(args, ("pool",))
    read_bundle(args.bundle)
    sha256 = str(json.loads((args.bundle / MANIFEST).read_text(encoding="utf-8"))["weights_sha256"])
    if args.evidence is not None:
        evidence = GateEvidence.from_report(_read(args.evidence))
    else:
        evidence = _replayed(args, loaded, sha256)
    store = open_policy_store(loaded.settings)
    judgement = check_gate(evidence, sha256)
    done = False
    if judgement.passed and args.apply:
        version = store.add(args.bundle)
        done = promote(store, version, evidence, at_s=time.time(), dry_run=False).done
    if args.json:
        verdict = {"passed": judgement.passed, "done": done, "reasons": judgement.reasons}
        print_json(verdict | {"evidence": asdict(evidence)})
    else:
        print(f"evidence: {evidence.source}")
        for reason in judgement.reasons:
            print(reason)
        print("promoted" if done else "would be promoted; add --apply" if judgement.passed else "not promoted")
    return 0 if judgement.passed else 1


def _replayed(args: argparse.Namespace, loaded: Loaded, sha256: str) -> GateEvidence:
    """Evidence from the history of the pool, or from a recording of one."""
    from prefect_intelligent.model_registry.replay_evidence import evaluate_on_history
    from prefect_intelligent.policy.bundle import read_bundle
    from prefect_intelligent.wiring.replay import read_recording, recording_model, recording_of
    from prefect_intelligent.wiring.steering import controller_config

    if args.recording is not None:
        recording, source = read_recording(args.recording), f"replay of {args.recording.name}"
    else:
        pool = chosen_pool(loaded)
        recording = recording_of(loaded.settings, pool, parse_span(args.replay, what="--replay"))
        source = f"replay of pool {pool}, {args.replay}"
    bundle = read_bundle(args.bundle)
    return evaluate_on_history(
        recording.runs,
        recording_model(recording),
        bundle.policy(),
        bundle.base,
        guard=controller_config(loaded.settings, recording.pool.name, "promotion").guard,
        interval_s=loaded.settings.interval_s,
        weights_sha256=sha256,
        source=source,
    )


def _back(args: argparse.Namespace) -> int:
    from prefect_intelligent.model_registry.promotion import rollback
    from prefect_intelligent.wiring.model_registry import open_policy_store

    store = open_policy_store(read_settings(args).settings)
    move = rollback(store, why=args.why, at_s=time.time(), dry_run=not args.apply)
    if args.json:
        print_json({"before": move.before, "after": move.after, "done": move.done})
    else:
        print(f"champion {move.before} -> {move.after}" + ("" if move.done else " (dry run; add --apply)"))
    return 0


def _read(path: Path) -> dict[str, object]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInputError("--evidence", str(path), f"must be a JSON report ({error})") from error
    if not isinstance(report, dict):
        raise InvalidInputError("--evidence", str(path), "must be a JSON object")
    return report
