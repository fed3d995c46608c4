"""Every setting: its type, bounds, default and meaning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from prefect_intelligent.domain import Prices, Resource
from prefect_intelligent.domain.queues import MAX_PRIORITY
from prefect_intelligent.domain.spans import LONGEST_S
from prefect_intelligent.domain.terms import MOST_USD

_MOST_RUNS = MAX_PRIORITY  # whole numbers on a Prefect server have 32 bits
ENV_PREFIX = "PREFECT_INTELLIGENT_"

Mode = Literal["shadow", "advise", "auto"]


class PriceSettings(BaseModel):
    """What capacity costs in a pool."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slot_usd_per_hour: float = Field(
        default=0.10, ge=0, le=MOST_USD, allow_inf_nan=False, description="Price of one slot for one hour."
    )
    min_billing_s: float = Field(
        default=0.0,
        ge=0,
        le=LONGEST_S,
        allow_inf_nan=False,
        description="A run is billed for at least so many seconds (60 on Fargate).",
    )
    idle_fraction: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of the slot price that an unused slot costs: 1 where a lower limit lets go of nodes, 0 on "
        "serverless and on machines that are there anyway. Without it 1 where `pools.<name>.capacity` is scaled, else "
        "0. Above 0 rules lower limits to save slots.",
    )
    lateness_weight: float = Field(
        default=1.0,
        ge=0,
        le=1e6,
        allow_inf_nan=False,
        description="The dial: multiplies every price of lateness. Above 1 is more punctual, below 1 is cheaper.",
    )


class BoundSettings(BaseModel):
    """How far the limit of a work queue may go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    least: int = Field(default=1, ge=1, le=_MOST_RUNS, description="Least limit, runs at once.")
    most: int | None = Field(default=None, ge=1, le=_MOST_RUNS, description="Largest limit; without it there is none.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.most is not None and self.most < self.least:
            raise ValueError(f"most ({self.most}) is below least ({self.least})")
        return self


class GuardSection(BaseModel):
    """What the guard permits, in every pool."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    interval_s: float = Field(
        default=60.0, ge=0, allow_inf_nan=False, description="A value is changed at most once in so many seconds."
    )
    step_fraction: float = Field(
        default=1.0, ge=0, allow_inf_nan=False, description="Largest change of a limit at once, as a share of it."
    )
    step_slots: float = Field(
        default=4.0, ge=1, allow_inf_nan=False, description="Largest change of a limit that is always permitted, runs."
    )
    hysteresis: float = Field(
        default=0.1, ge=0, allow_inf_nan=False, description="Changes of a limit up to this share of it are not made."
    )
    starvation_s: float = Field(
        default=14_400.0, gt=0, description="No run waits longer than so many seconds while the pool has room."
    )
    ttl_s: float = Field(
        default=300.0,
        gt=0,
        allow_inf_nan=False,
        description="Age at which a proposal is not followed any more, seconds.",
    )
    reserve_slots: float = Field(
        default=2.0, ge=0, allow_inf_nan=False, description="Slots that may be kept free for runs scheduled soon."
    )
    reserve_s: float = Field(default=600.0, ge=0, allow_inf_nan=False, description="How soon that is, seconds.")
    lower_after_s: float = Field(
        default=0.0,
        ge=0,
        le=LONGEST_S,
        allow_inf_nan=False,
        description="A pool limit is lowered only if it has not changed for so many seconds, as nodes go slowly; it is "
        "raised at once. Figures of bundles are of 0.",
    )


class PoolSettings(BaseModel):
    """What is different for one work pool; what is left out is as everywhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    least_slots: int = Field(default=1, ge=1, le=_MOST_RUNS, description="Least pool limit.")
    most_slots: int | None = Field(
        default=None,
        ge=1,
        le=_MOST_RUNS,
        description="Largest pool limit; without it the one that people gave the pool.",
    )
    queues: dict[str, BoundSettings] = Field(default={}, description="Bounds of single work queues, by name.")

    slot_usd_per_hour: float | None = Field(
        default=None, ge=0, le=MOST_USD, allow_inf_nan=False, description="As in `prices`."
    )
    min_billing_s: float | None = Field(
        default=None, ge=0, le=LONGEST_S, allow_inf_nan=False, description="As in `prices`."
    )
    idle_fraction: float | None = Field(default=None, ge=0, le=1, description="As in `prices`.")
    lateness_weight: float | None = Field(
        default=None, ge=0, le=1e6, allow_inf_nan=False, description="As in `prices`."
    )

    capacity: Literal["fixed", "scaled", "serverless"] | None = Field(
        default=None,
        description="What a slot that nobody uses costs: fixed (machines that stand anyway: a lower limit saves "
        "nothing), scaled (a fleet or an autoscaler follows the wanted slots: an unused slot is paid until it goes), "
        "serverless (runs are paid: it costs nothing). Without it nobody pays for an unused slot; `idle_fraction` "
        "overrules it.",
    )
    boot_s: float | None = Field(
        default=None,
        ge=0,
        le=LONGEST_S,
        allow_inf_nan=False,
        description="Seconds until capacity that was asked for is there; without it what `fleet` has measured, else 0.",
    )
    scale_command: tuple[str, ...] = Field(
        default=(),
        description="Program and arguments that `control run` starts when the wanted slots have changed; {slots} and "
        "{pool} in them are filled in.",
    )
    scale_webhook: str | None = Field(
        default=None,
        min_length=1,
        description="Address that gets the wanted slots by POST when they have changed; the token in the environment "
        "variable PREFECT_INTELLIGENT_SCALE_TOKEN, if there is one, is sent as a bearer.",
    )

    poll_s: float = Field(
        default=10.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds between two polls of the pool's workers (PREFECT_WORKER_QUERY_SECONDS), for the twin.",
    )
    worker_slots: int | None = Field(
        default=None,
        ge=1,
        description="Runs that all workers of the pool carry at once, the sum of their --limit; without it `eta` and "
        "`what-if` learn it from runs that wait although the pool has room.",
    )
    startup_s: float = Field(
        default=3.0, ge=0, allow_inf_nan=False, description="Median seconds from a slot to running, for the twin."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.most_slots is not None and self.most_slots < self.least_slots:
            raise ValueError(f"most_slots ({self.most_slots}) is below least_slots ({self.least_slots})")
        return self


PreventionRuleName = Literal[
    "hung-run",
    "out-of-memory",
    "flaky-host",
    "bad-release",
    "bad-input",
    "overload",
    "passing-trouble",
    "bad-hour",
    "stale-runs",
    "keeps-failing",
]
"""Names of the rules of prevention; `prevention.rules` has a rule of each."""


class PreventionSettings(BaseModel):
    """What one rule of prevention may do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["off", "shadow", "auto"] = Field(
        default="shadow", description="off, shadow (only record what it would do), or auto."
    )
    most: int = Field(default=10, ge=0, description="Measures of the rule in force at once.")
    per_day: int = Field(default=20, ge=0, description="New measures of the rule within 24 hours.")
    again: bool = Field(default=False, description="Whether a hung run that was stopped is started again.")


class Settings(BaseSettings):
    """All settings, frozen."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENV_PREFIX, env_nested_delimiter="__", env_ignore_empty=True
    )

    pool: str | None = Field(
        default=None, min_length=1, description="Work pool that commands speak about without --pool."
    )
    policy: str = Field(
        default="general",
        min_length=1,
        description="Decides: general (a rule tuned over many pools), a rule such as atc+lookahead+share, shipped, "
        "champion, the folder of a bundle, or planner:POLICY, which tries that policy's plan and its neighbours in "
        "the twin.",
    )
    policies: str = Field(
        default="~/.prefect-intelligent/policies",
        min_length=1,
        description='Promoted policies: a folder, or mlflow:NAME, a registered model; `policy = "champion"` follows.',
    )
    rule: str = Field(
        default="general", min_length=1, description="The base rule: takes over when the policy cannot be followed."
    )
    look_ahead_ms: float = Field(
        default=1000.0,
        ge=0,
        description="Milliseconds for asking the twin before a learned plan is followed; 0 does not ask.",
    )
    mode: Mode = Field(
        default="auto",
        description="shadow records what it would do, advise also sends it as a Prefect event, auto does it.",
    )
    interval_s: float = Field(
        default=20.0,
        ge=1,
        le=3600,
        description="Longest time between two decisions, seconds; at least two worker polls.",
    )
    react: bool = Field(default=True, description="Whether Prefect events bring the next decision forward.")
    hold_s: float = Field(
        default=86400.0,
        ge=0,
        le=LONGEST_S,
        allow_inf_nan=False,
        description="How long a value that a person has set by hand is left alone, seconds.",
    )
    keep_s: float = Field(
        default=3 * 86400.0,
        ge=3600,
        le=LONGEST_S,
        allow_inf_nan=False,
        description="How long decisions are kept, seconds; each takes about 0.5 kB per queue in the history.",
    )
    runbooks_url: str | None = Field(
        default=None,
        min_length=1,
        description="Where docs/how-to/runbooks is published; alerts link to a page below it.",
    )
    data_dir: Path | None = Field(
        default=None,
        description="Folder for what is kept on this machine; else `prefect-intelligent` in PREFECT_HOME (~/.prefect).",
    )
    history_url: str | None = Field(
        default=None,
        description="Database of the history, sqlite:///file or postgresql://...; without it history.db in `data_dir`.",
    )
    history_block: str | None = Field(
        default=None,
        min_length=1,
        description="Block of Prefect (intelligent-history) with the database of the history, in place of "
        "`history_url`.",
    )
    mlflow_block: str | None = Field(
        default=None,
        min_length=1,
        description="Block of Prefect (intelligent-mlflow) with MLflow's address and credentials; the "
        "environment variable MLFLOW_TRACKING_URI overrules it.",
    )
    guard: GuardSection = Field(default=GuardSection(), description="What the guard permits, in every pool.")
    versions_url: str | None = Field(
        default=None,
        description="Folder or object store (fsspec) of pipeline versions; without it `versions` in `data_dir`.",
    )
    prices: PriceSettings = Field(default=PriceSettings(), description="What capacity costs in every pool.")
    pools: dict[str, PoolSettings] = Field(default={}, description="What is different for single work pools, by name.")
    resources: dict[str, Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]] = Field(
        default={}, description="Capacity of each shared resource: runs that it serves at once at full speed."
    )
    budgets_usd_per_day: dict[str, Annotated[float, Field(gt=0, le=24 * MOST_USD, allow_inf_nan=False)]] = Field(
        default={},
        description="What the runs of a deployment may cost a day, by its name; health holds one without against its "
        "own past.",
    )

    prevention: dict[PreventionRuleName, PreventionSettings] = Field(
        default={}, description="What prevention may do, by name of the rule; a rule that is not named is in shadow."
    )

    def prices_of(self, pool: str) -> Prices:
        """The prices in force for one pool."""
        own = self.pools.get(pool, PoolSettings()).model_dump(
            exclude_none=True, include=set(PriceSettings.model_fields)
        )
        scaled = self.pools.get(pool, PoolSettings()).capacity == "scaled"
        return Prices(**{"idle_fraction": float(scaled)} | self.prices.model_dump(exclude_none=True) | own)

    @property
    def shared_resources(self) -> tuple[Resource, ...]:
        """The resources as the core wants them, by name."""
        return tuple(Resource(name=name, capacity=capacity) for name, capacity in sorted(self.resources.items()))

    @property
    def folder(self) -> Path:
        """`data_dir`, or its default."""
        if self.data_dir is not None:
            return self.data_dir.expanduser()
        return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser() / "prefect-intelligent"

    @property
    def history(self) -> str:
        """`history_url`, or its default."""
        return self.history_url or f"sqlite:///{self.folder / 'history.db'}"

    @property
    def versions(self) -> str:
        """`versions_url`, or its default."""
        return self.versions_url or str(self.folder / "versions")

    @property
    def mlflow_uri(self) -> str:
        """`MLFLOW_TRACKING_URI`, or a SQLite file in the data folder."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def spool_dir(self) -> Path:
        """Where hooks and the controller leave what is sent later."""
        return self.folder / "spool"
