"""`prefect-intelligent promote BUNDLE`: make a bundle the champion, if the gate lets it pass; `--back` returns."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Json, Pool, chosen_pool, print_json, read_settings
from prefect_intelligent.domain import parse_span
from prefect_intelligent.errors import InvalidInputError

if TYPE_CHECKING:
    from prefect_intelligent.model_registry.promotion import GateEvidence
    from prefect_intelligent.settings import Loaded


def command(
    bundle: Annotated[Path | None, Parameter(name="BUNDLE", help="folder with manifest.json and weights.npz")] = None,
    /,
    *,
    evidence: Annotated[Path | None, Parameter(metavar="FILE", help="report of `python -m rl.evaluate --json`")] = None,
    replay: Annotated[
        str | None,
        Parameter(metavar="SPAN", help="replay so much of the pool's history as evidence, e.g. 14d"),
    ] = None,
    recording: Annotated[
        Path | None, Parameter(metavar="FILE", help="replay this recording as evidence instead")
    ] = None,
    back: Annotated[bool, Parameter(help="go back to the champion before this one instead")] = False,
    why: Annotated[
        str, Parameter(metavar="WHY", help="reason for going back, for the record")
    ] = "asked for on the command line",
    apply: Annotated[bool, Parameter(help="move the alias; without it only say what would happen")] = False,
    pool: Pool = None,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Ask the gate; exit code 1 if it refuses."""
    if back:
        return _back(config, why, apply=apply, as_json=as_json)
    given = [source for source in (evidence, replay, recording) if source is not None]
    if bundle is None or len(given) != 1:
        raise InvalidInputError(
            "promote", None, "name a bundle and one of --evidence, --replay and --recording, or give --back"
        )
    from prefect_intelligent.model_registry.promotion import GateEvidence, check_gate, promote
    from prefect_intelligent.policy.bundle import MANIFEST, read_bundle
    from prefect_intelligent.wiring.model_registry import open_policy_store

    loaded = read_settings(config, pool=pool)
    read_bundle(bundle)
    sha256 = str(json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))["weights_sha256"])
    if evidence is not None:
        proof = GateEvidence.from_report(_read(evidence))
    else:
        proof = _replayed(loaded, bundle, sha256, replay, recording)
    store = open_policy_store(loaded.settings)
    judgement = check_gate(proof, sha256)
    done = False
    if judgement.passed and apply:
        version = store.add(bundle)
        done = promote(store, version, proof, at_s=time.time(), dry_run=False).done
    if as_json:
        verdict = {"passed": judgement.passed, "done": done, "reasons": judgement.reasons}
        print_json(verdict | {"evidence": asdict(proof)})
    else:
        print(f"evidence: {proof.source}")
        for reason in judgement.reasons:
            print(reason)
        print("promoted" if done else "would be promoted; add --apply" if judgement.passed else "not promoted")
    return 0 if judgement.passed else 1


def _replayed(loaded: Loaded, folder: Path, sha256: str, span: str | None, recorded: Path | None) -> GateEvidence:
    """Evidence from a span of the pool's history, or from a recording of one."""
    from prefect_intelligent.model_registry.replay_evidence import evaluate_on_history
    from prefect_intelligent.policy.bundle import read_bundle
    from prefect_intelligent.wiring.regime import pool_regime
    from prefect_intelligent.wiring.replay import read_recording, recording_model, recording_of

    if recorded is not None:
        recording, source = read_recording(recorded), f"replay of {recorded.name}"
    else:
        pool = chosen_pool(loaded)
        recording = recording_of(loaded.settings, pool, parse_span(str(span), what="--replay"))
        source = f"replay of pool {pool}, {span}"
    bundle, model = read_bundle(folder), recording_model(loaded.settings, recording)
    return evaluate_on_history(
        recording.runs,
        model,
        bundle.policy(),
        bundle.base,
        regime=pool_regime(loaded.settings, recording.pool.name, model.queues_by_name, recording.pool.limit),
        weights_sha256=sha256,
        source=source,
    )


def _back(config: str | None, why: str, *, apply: bool, as_json: bool) -> int:
    from prefect_intelligent.model_registry.promotion import rollback
    from prefect_intelligent.wiring.model_registry import open_policy_store

    store = open_policy_store(read_settings(config).settings)
    move = rollback(store, why=why, at_s=time.time(), dry_run=not apply)
    if as_json:
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
