"""Read scenarios from TOML files; errors name the nearest valid key."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar, get_args, get_type_hints

from prefect_intelligent.domain import Prices, QueueSetting, parse_deadline
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.twin.cloud_prices import slot_prices
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, ResourceSpec, WorkerSpec
from simulations.arrivals import Arrivals, Backfill, Bursts, Cron, Interval, Poisson, RRule
from simulations.family import Family
from simulations.workload import Duration, Scenario, Source

T = TypeVar("T")

FOLDER: Final = Path(__file__).parent / "scenarios"
ARRIVALS: Final[Mapping[str, type[Any]]] = {
    "interval": Interval,
    "cron": Cron,
    "rrule": RRule,
    "poisson": Poisson,
    "bursts": Bursts,
    "backfill": Backfill,
}
_SOURCE_KEYS: Final = (
    "duration", "arrivals", "after", "called_by", "called_times", "deadline", "estimate_bias", "estimate_noise",
)  # fmt: skip


def scenario_names() -> tuple[str, ...]:
    """The scenarios that come with the project, and the training family."""
    return (*sorted(path.stem for path in FOLDER.glob("*.toml")), "family")


def load_scenario(name: str | Path, seed: int = 0) -> Scenario:
    """A scenario by its name, or from a file (a path ending in .toml).

    Args:
        name: See `scenario_names`.
        seed: Seed of the cluster, for "family".

    Raises:
        UnknownNameError: There is no such scenario, or the file has an unknown key.
        InvalidInputError: A value cannot be used.
    """
    text = str(name)
    if text == "family":
        return Family().scenario(seed)
    path = Path(text) if text.endswith(".toml") else FOLDER / f"{text}.toml"
    if not path.is_file():
        if text.endswith(".toml"):
            raise InvalidInputError("scenario", text, "there is no such file")
        raise UnknownNameError("scenario", text, scenario_names())
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"scenario {text!r}", str(error), "is not a TOML file; see docs/reference/scenarios.md"
        ) from error
    return read_scenario(path.stem, table)


def read_scenario(name: str, table: Mapping[str, Any]) -> Scenario:
    """A scenario from the table of a TOML file; same errors as `load_scenario`."""
    values = dict(table)
    pools = [_pool(each, f"pool {number + 1}") for number, each in enumerate(_list(values, "pools", name))]
    sources = [_source(each) for each in _list(values, "deployments", name)]
    resources = [_make(ResourceSpec, each, "resource") for each in _items(values.pop("resources", []), "resources")]
    unfit = values.pop("unfit", [])
    if not isinstance(unfit, list) or not all(isinstance(each, str) for each in unfit):
        raise InvalidInputError(f"unfit of scenario {name!r}", unfit, "must be a list of texts")
    scenario = _make(
        Scenario,
        {
            **values,
            "name": name,
            "pools": tuple(pools),
            "sources": tuple(sources),
            "resources": tuple(resources),
            "unfit": tuple(unfit),
        },
        f"scenario {name!r}",
    )
    queues = [queue.name for pool in pools for queue in pool.queues]
    if len(set(queues)) < len(queues):
        raise InvalidInputError("queues", queues, "every queue of a scenario needs its own name")
    for source in sources:
        if source.terms.queue not in queues:
            raise UnknownNameError(f"queue of deployment {source.terms.name!r}", source.terms.queue, queues)
        for resource in source.terms.resources:
            if resource not in {each.name for each in resources}:
                raise UnknownNameError(
                    f"resource of deployment {source.terms.name!r}", resource, (each.name for each in resources)
                )
    return scenario


def to_train_on(name: str | Path, *, although_unfit: bool = False) -> Scenario:
    """As `load_scenario`; a scenario that does not show its pool is refused.

    Args:
        name: See `load_scenario`.
        although_unfit: Whether it is taken all the same.

    Raises:
        InvalidInputError: It is marked as unfit.
    """
    scenario = load_scenario(name)
    if scenario.unfit and not although_unfit:
        raise InvalidInputError(
            f"scenario {scenario.name!r}",
            "; ".join(scenario.unfit),
            "so it is not the pool that it was fitted to; calibrate over other days, or use --although-unfit",
        )
    return scenario


def with_load(scenario: Scenario, factor: float) -> Scenario:
    """The same scenario with all durations multiplied, to see it at another load."""
    if not factor > 0:
        raise InvalidInputError("load", factor, "must be above 0")

    def stretched(duration: Duration) -> Duration:
        samples = tuple(value * factor for value in duration.samples)
        return replace(duration, median_s=duration.median_s * factor, samples=samples)

    return replace(scenario, sources=tuple(replace(s, duration=stretched(s.duration)) for s in scenario.sources))


def _list(values: dict[str, Any], key: str, name: str) -> list[Mapping[str, Any]]:
    found = values.pop(key, None)
    if not isinstance(found, list) or not found:
        raise InvalidInputError(f"scenario {name!r}", found, f"needs at least one [[{key}]] table")
    return found


def _pool(table: Mapping[str, Any], label: str) -> PoolSpec:
    values = _table(table, label)
    queues = values.pop("queues", None)
    if not isinstance(queues, list) or not queues:
        raise InvalidInputError(label, queues, "needs at least one [[pools.queues]] table")
    values["queues"] = tuple(_make(QueueSetting, queue, "queue") for queue in queues)
    prices = _table(values.pop("prices", {}), f"prices of {label}")
    if "sheet" in prices:
        try:
            values["prices"] = slot_prices(prices.pop("sheet"), **prices)
        except TypeError as error:
            raise InvalidInputError(
                f"prices of {label}", prices, "next to 'sheet' go 'vcpu', 'gb' and the like"
            ) from error
    else:
        values["prices"] = _make(Prices, prices, "prices")
    for key in ("spot_prices", "reclaims"):
        values[key] = tuple(tuple(_items(pair, key)) for pair in _items(values.get(key, []), key))
    values["workers"] = tuple(_worker(each) for each in _items(values.get("workers", []), f"workers of {label}"))
    return _make(PoolSpec, values, label)


def _worker(table: Any) -> WorkerSpec:
    values = _table(table, "worker")
    values["queues"] = tuple(_items(values.get("queues", []), "queues of a worker"))
    values["outages"] = tuple(tuple(_items(pair, "outages")) for pair in _items(values.get("outages", []), "outages"))
    return _make(WorkerSpec, values, "worker")


def _source(table: Mapping[str, Any]) -> Source:
    values = _table(table, "deployment")
    given = {key: values.pop(key) for key in _SOURCE_KEYS if key in values}
    known = {field.name for field in fields(DeploymentSpec)} | set(_SOURCE_KEYS)
    for key in values:
        if key not in known:
            raise UnknownNameError("key of a deployment", key, known)
    if "resources" in values:
        values["resources"] = tuple(_items(values["resources"], "resources of a deployment"))
    terms = _make(DeploymentSpec, values, "deployment")
    if "duration" in given:
        duration = _table(given["duration"], f"duration of {terms.name!r}")
        duration["samples"] = tuple(_items(duration.get("samples", []), f"samples of {terms.name!r}"))
        given["duration"] = _make(Duration, duration, f"duration of {terms.name!r}")
    if "arrivals" in given:
        given["arrivals"] = _arrivals(given["arrivals"], terms.name)
    if "deadline" in given:
        if not isinstance(given["deadline"], str):
            raise InvalidInputError(
                "deadline", given["deadline"], "must be a text, such as '45m' or '07:00 Europe/Paris'"
            )
        given["deadline"] = parse_deadline(given["deadline"])
    given["after"] = tuple(_items(given.get("after", []), f"'after' of {terms.name!r}"))
    return Source(terms=terms, **given)


def _arrivals(table: Any, name: str) -> Arrivals:
    found = _table(table, f"arrivals of {name!r}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
    kind = str(values.pop("kind", None))
    if kind not in ARRIVALS:
        raise UnknownNameError(f"kind of arrivals of {name!r}", kind, ARRIVALS)
    made: Arrivals = _make(ARRIVALS[kind], values, f"arrivals of {name!r}")
    return made


def _table(value: Any, what: str) -> dict[str, Any]:
    """A copy of a table, or a clear error."""
    if not isinstance(value, Mapping):
        raise InvalidInputError(what, value, "must be a table, such as { key = value }")
    return dict(value)


def _items(value: Any, what: str) -> list[Any]:
    """A list, or a clear error."""
    if not isinstance(value, list):
        raise InvalidInputError(what, value, "must be a list, such as [1, 2]")
    return value


def _make(kind: type[T], table: Any, what: str) -> T:
    """Build a dataclass from a table; the error about an unknown key names the nearest valid one."""
    values = _table(table, what)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise UnknownNameError(f"key of {what}", key, known)
    for name, each in known.items():
        if each.default is MISSING and each.default_factory is MISSING and name not in values:
            raise InvalidInputError(what, dict(values), f"{name!r} is missing")
    try:
        return kind(**values)
    except TypeError as error:
        _name_wrong_type(kind, values, what)
        raise InvalidInputError(
            what, ", ".join(values), f"one of these has a value of the wrong type ({error})"
        ) from error


_TYPES: Final[Mapping[type, tuple[type, ...]]] = {float: (int, float), int: (int,), str: (str,), bool: (bool,)}
_TYPE_NAMES: Final = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}


def _name_wrong_type(kind: type[Any], values: Mapping[str, Any], what: str) -> None:
    """Raise for the first number, text or boolean of another type."""
    for name, hint in get_type_hints(kind).items():
        plain = next((each for each in (get_args(hint) or (hint,)) if each in _TYPES), None)
        if plain is None or name not in values or values[name] is None:
            continue
        fits = isinstance(values[name], _TYPES[plain]) and isinstance(values[name], bool) == (plain is bool)
        if not fits:
            raise InvalidInputError(f"{name} of {what}", values[name], f"must be {_TYPE_NAMES[plain]}")
