"""Who takes part in an evaluation: rules, the tuned rule, bundles, planners."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.base import Policy
from prefect_intelligent.policy.bundle import MANIFEST, SHIPPED, WEIGHTS, read_bundle
from prefect_intelligent.policy.learned import LearnedPolicy
from prefect_intelligent.policy.rule_policy import RulePolicy, parse_policy
from prefect_intelligent.twin.planner import Planner, PlannerConfig
from rl.comparisons import CLAIRVOYANT, PLANNER, REGRESSED, TUNED
from rl.tune import read_rule

RESULTS: Final = Path(__file__).parent / "results"
TUNED_RULE: Final = RESULTS / "tuned.json"
REGRESSED_BUNDLE: Final = RESULTS / REGRESSED
"""The bundle from which the shipped one was fine-tuned, where it is kept."""
SINGLE_RULES: Final = (
    "prefect-default",
    "fifo+reactive+share",
    "static+reactive+share",
    "edf+reactive+share",
    "sjf+reactive+share",
    "wspt+reactive+share",
    "maxweight+reactive+share",
    "covert+reactive+share",
    "atc+reactive+share",
    "atc+urgency+share",
    "edf+lookahead+share",
    "wspt+lookahead+share",
    "atc+lookahead+share",
)
"""The untuned rivals: every one with the capacity and resource rules, without which none is competitive."""
SEEDS: Final = "seeds"
REFERENCE: Final = PlannerConfig(futures=0, hold=18, horizon=70)
"""The clairvoyant planner that gaps are measured to: with the default hold and horizon it leaves more on the table."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """A policy of the comparison; several bundles of one training recipe with other seeds are one entrant.

    Attributes:
        name: Its name.
        policies: One per training seed.
        weights_sha256: Which weights it has, where it is a single bundle.
        training_seeds: What the bundles say they were trained with.
    """

    name: str
    policies: tuple[Policy | Planner, ...]
    weights_sha256: str | None = None
    training_seeds: tuple[Any, ...] = ()

    @property
    def plans(self) -> bool:
        """Whether it plays few episodes, because it takes long."""
        return isinstance(self.policies[0], Planner)

    def fingerprint(self) -> str:
        """Hash of what decides: weights and parameters."""
        digest = hashlib.sha256()
        for policy in self.policies:
            rule = policy if isinstance(policy, RulePolicy) else getattr(policy, "base", None)
            if isinstance(rule, RulePolicy):
                digest.update(json.dumps([rule.name, asdict(rule.parameters)], sort_keys=True).encode())
            network = getattr(getattr(policy, "policy", policy), "network", None)
            for name, array in sorted(getattr(network, "weights", {}).items()):
                digest.update(name.encode() + array.tobytes())
        return digest.hexdigest()[:16]


def entrants(names: str, bundles: Sequence[str] = ()) -> list[Entrant]:
    """The policies named on the command line, each once; the first is the one that is compared with the others.

    Args:
        names: Comma-separated: "shipped", "tuned", "regressed", "rules", "clairvoyant", "planner", "seeds", a rule, or
            NAME=FOLDER or FOLDER of a bundle.
        bundles: Folders of one recipe trained with several seeds: the entrant "seeds", first unless it is named.

    Raises:
        InvalidInputError: A bundle cannot be read, or "seeds" stands for nothing.
    """
    listed = [name.strip() for name in names.split(",") if name.strip()]
    if bundles and SEEDS not in listed:
        listed.insert(0, SEEDS)
    found: dict[str, Entrant] = {}
    for name in listed:
        for entrant in _entered(name, tuple(found.values()), bundles):
            found.setdefault(entrant.name, entrant)
    if not found:
        raise InvalidInputError("--policies", names, "name at least one policy")
    return list(found.values())


def _entered(name: str, before: Sequence[Entrant], bundles: Sequence[str]) -> list[Entrant]:
    """What one name on the command line stands for."""
    if name == "rules":
        return [Entrant(rule, (parse_policy(rule),)) for rule in SINGLE_RULES]
    if name == TUNED:
        return [Entrant(name, (read_rule(TUNED_RULE),))]
    if name == CLAIRVOYANT:
        return [Entrant(name, (_planner(name, REFERENCE, None),))]
    if name == PLANNER:
        pupil = before[0].policies[0] if before and isinstance(before[0].policies[0], LearnedPolicy) else None
        return [Entrant(name, (_planner(name, PlannerConfig(), pupil),))]
    if name == SEEDS:
        if not bundles:
            raise InvalidInputError("--policies", SEEDS, "needs --bundles with one folder per training seed")
        read = [read_bundle(Path(folder)) for folder in bundles]
        policies = tuple(replace(bundle, name=SEEDS).policy() for bundle in read)
        return [Entrant(name, policies, training_seeds=tuple(bundle.provenance.get("seed") for bundle in read))]
    if name == "shipped":
        return [_bundled(name, SHIPPED)]
    label, equals, folder = name.partition("=")
    if name == REGRESSED:
        return [_bundled(name, REGRESSED_BUNDLE)]
    if equals or (Path(name) / WEIGHTS).exists():
        return [_bundled(label if equals else Path(name).name, Path(folder or name))]
    return [Entrant(name, (parse_policy(name),))]


def _planner(name: str, config: PlannerConfig, pupil: Policy | None) -> Planner:
    return Planner(read_rule(TUNED_RULE), config, np.random.default_rng(0), name, pupil)


def _bundled(name: str, folder: Path) -> Entrant:
    """The policy of a bundle, with the fingerprint that the promotion gate asks for."""
    bundle = read_bundle(folder)
    sha256 = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["weights_sha256"]
    return Entrant(name, (bundle.policy(),), str(sha256), (bundle.provenance.get("seed"),))
