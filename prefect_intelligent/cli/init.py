"""`prefect-intelligent init`: a settings file and deployments to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from prefect_intelligent.cli.options import Json, print_json
from prefect_intelligent.errors import InvalidInputError

_SETTINGS: Final = "prefect-intelligent.toml"
_DEPLOYMENTS: Final = "prefect.yaml"
_BESIDE: Final = "prefect-intelligent.yaml"
_RETRAIN: Final = Path("flows/retrain_policy.py")


def command(
    *,
    pool: Annotated[str, Parameter(name="--pool", metavar="NAME", help="work pool to steer")],
    run_in: Annotated[
        str, Parameter(metavar="NAME", help="work pool in which the deployments run (default: operations)")
    ] = "operations",
    folder: Annotated[Path, Parameter(metavar="FOLDER", help="where to write (default: here)")] = Path(),
    force: Annotated[bool, Parameter(help="replace files that are there")] = False,
    as_json: Json = False,
) -> int:
    """Write a commented settings file, and deployments of controller, sync, report, ship and retrain."""
    from prefect_intelligent.settings.template import settings_template

    for option, name in (("--pool", pool), ("--run-in", run_in)):
        if not name:
            raise InvalidInputError(option, name, "must be the name of a work pool")
    if pool == run_in:
        raise InvalidInputError("--run-in", run_in, "the controller would hold a slot of the pool that it steers")
    if not folder.is_dir():
        raise InvalidInputError("--folder", str(folder), "no such folder")
    yours = (folder / _DEPLOYMENTS).exists() and not force
    deployments = folder / (_BESIDE if yours else _DEPLOYMENTS)
    written = {folder / _SETTINGS: settings_template(pool), deployments: _deployments(pool, run_in, folder)}
    there = [path for path in written if path.exists()]
    if there and not force:
        raise InvalidInputError("file", str(there[0]), "is there already; --force replaces it")
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
    deploy = "prefect deploy --all" + (f" --prefect-file {_BESIDE}" if yours else "")
    if as_json:
        print_json({"written": [str(path) for path in written], "deploy": deploy})
        return 0
    for path in written:
        print(f"written: {path}")
    print(f"Look through both, then:\n  prefect work-pool create {run_in} --type process\n  {deploy}")
    return 0


def _deployments(pool: str, run_in: str, folder: Path) -> str:
    """A file for `prefect deploy`."""
    operations = "prefect_intelligent.flow.operations"
    rows: list[tuple[str, dict[str, Any]]] = [
        (
            "Steers the pool until the run is cancelled. Where you can, run `prefect-intelligent control run` as a\n"
            "service instead, which is started again when it ends.",
            _deployment("controller", f"{operations}.controller", run_in, {"pools": [pool]}),
        ),
        (
            "Copies runs, states and events out of Prefect before it forgets them.",
            _deployment("sync", f"{operations}.sync_history", run_in, {}, "*/10 * * * *"),
        ),
        (
            "What waiting, lateness and failures have cost.",
            _deployment("report", f"{operations}.report", run_in, {"pool": pool, "last": "7d"}, "0 6 * * 1"),
        ),
        (
            "Sends what was recorded on its worker's machine to MLflow: where the controller and the flows run.",
            _deployment("ship", f"{operations}.ship", run_in, {}, "*/5 * * * *"),
        ),
    ]
    retrain = _deployment("retrain", f"{_RETRAIN}:retrain_policy", run_in, {"pool": pool}, "0 3 * * 0")
    parts = [f"# Deployments for the work pool {pool}; deploy them with `prefect deploy --all`.", "deployments:"]
    for about, row in rows:
        parts += ["", *(f"# {line}" for line in about.splitlines()), _yaml(row)]
    about = "Trains the pool's policy anew and offers it to the gate of promotion; needs a checkout of the repository."
    text = _yaml(retrain)
    if not (folder / _RETRAIN).is_file():
        text = "\n".join(f"# {line}" for line in text.splitlines())
    return "\n".join([*parts, "", f"# {about}", text, ""])


def _deployment(
    name: str, entrypoint: str, run_in: str, parameters: dict[str, Any], cron: str | None = None
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": name,
        "entrypoint": entrypoint,
        "work_pool": {"name": run_in},
        "parameters": parameters,
        "pull": None,
        "concurrency_limit": {"limit": 1, "collision_strategy": "CANCEL_NEW"},
    }
    if cron is not None:
        row["schedules"] = [{"cron": cron, "timezone": "UTC"}]
    return row


def _yaml(row: dict[str, Any]) -> str:
    """An item of a list."""
    import yaml

    return str(yaml.safe_dump([row], sort_keys=False)).rstrip("\n")
