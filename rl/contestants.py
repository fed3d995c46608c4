"""The policies that an evaluation compares: rules, the tuned rule, bundles, planners."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.base import Policy
from prefect_intelligent.policy.bundle import MANIFEST, SHIPPED, WEIGHTS, read_bundle
from prefect_intelligent.policy.learned import LearnedPolicy
from prefect_intelligent.policy.network import N_PLACES, Network
from prefect_intelligent.policy.planner import Planner, PlannerConfig
from prefect_intelligent.policy.rule_policy import GENERAL, RulePolicy, parse_policy
from prefect_intelligent.settings import Settings
from rl.evaluation.comparisons import CLAIRVOYANT, DEFAULT_RULE, PLANNER, REGRESSED, SERVICE, TUNED
from rl.service import UNHURRIED, Service, as_served
from rl.tune import read_rule

RESULTS: Final = Path(__file__).parent / "results"
TUNED_RULE: Final = replace(GENERAL, label=TUNED)
"""The general rule, the strongest rival of what is learned on top of it."""
REGRESSED_BUNDLE: Final = RESULTS / REGRESSED
"""The pre-trained bundle from which the shipped one was fine-tuned."""
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
"""The untuned rules, each with the capacity and limit rules without which none is competitive."""
SEEDS: Final = "seeds"
WITHOUT: Final = "without-"
"""Before a lever: the first contestant without it (ablation)."""
_LEVERS: Final = {
    "pool": ("pool_head", slice(None)),
    "place": ("queue_head", slice(None, N_PLACES)),
    "share": ("queue_head", slice(N_PLACES, None)),
}
"""Where the network predicts the savings of each lever."""
REFERENCE: Final = PlannerConfig(hold_s=2160.0, horizon_s=8400.0, round_futures=1, most_futures=1)
"""The clairvoyant planner that gaps are measured to; its cost is lower than with the default hold and horizon."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A policy that is compared; bundles trained alike with other seeds are one contestant.

    Attributes:
        name: Its name.
        policies: One per training seed.
        weights_sha256: Hash of its weights, where it is a single bundle.
        training_seeds: Seeds that the bundles say they were trained with.
    """

    name: str
    policies: tuple[Policy | Service, ...]
    weights_sha256: str | None = None
    training_seeds: tuple[Any, ...] = ()

    @property
    def plans(self) -> bool:
        """Whether it plans, which takes long; it therefore plays few episodes."""
        return isinstance(self.policies[0], Planner | Service)

    @property
    def clairvoyant(self) -> bool:
        """Whether it knows what will happen; its cost is a bound, not a claim."""
        return self.name == CLAIRVOYANT

    def fingerprint(self) -> str:
        """Hash of weights and parameters."""
        digest = hashlib.sha256()
        for policy in self.policies:
            acting = policy.policy if isinstance(policy, Service) else policy
            if isinstance(acting, Planner):
                digest.update(repr(acting.config).encode())
                acting = acting.inner
            rule = acting if isinstance(acting, RulePolicy) else getattr(acting, "base", None)
            if isinstance(rule, RulePolicy):
                digest.update(json.dumps([rule.name, asdict(rule.parameters)], sort_keys=True).encode())
            network = getattr(acting, "network", None)
            for name, array in sorted(getattr(network, "weights", {}).items()):
                digest.update(name.encode() + array.tobytes())
        return digest.hexdigest()[:16]


def without_lever(policy: LearnedPolicy, lever: str) -> LearnedPolicy:
    """A policy that never moves one lever ("pool", "place" or "share"): it predicts that this saves nothing."""
    head, columns = _LEVERS[lever]
    weights = {name: array.copy() for name, array in policy.network.weights.items()}
    for part in ("weight", "bias"):
        weights[f"{head}.{part}"][..., columns] = 0.0
    return replace(policy, name=f"{WITHOUT}{lever}", network=Network(weights))


def read_contestants(names: str, bundles: Sequence[str] = ()) -> list[Contestant]:
    """The policies named on the command line, each once; the first is the one that is compared with the others.

    Args:
        names: Comma-separated: "shipped", "default-rule", "tuned", "regressed", "rules", "clairvoyant", "planner",
            "service", "without-pool", "without-place" and "without-share" (the first one, less that lever), "seeds", a
            rule, NAME=FOLDER or FOLDER of a bundle, or NAME=FILE.json of a tuned rule.
        bundles: Folders of bundles trained alike with several seeds: the contestant "seeds", first unless it is named.

    Raises:
        InvalidInputError: A bundle cannot be read, or "seeds" is named without `bundles`.
    """
    listed = [name.strip() for name in names.split(",") if name.strip()]
    if bundles and SEEDS not in listed:
        listed.insert(0, SEEDS)
    found: dict[str, Contestant] = {}
    for name in listed:
        for contestant in _parse(name, tuple(found.values()), bundles):
            found.setdefault(contestant.name, contestant)
    if not found:
        raise InvalidInputError("--policies", names, "name at least one policy")
    return list(found.values())


def _parse(name: str, before: Sequence[Contestant], bundles: Sequence[str]) -> list[Contestant]:
    """The contestants that one name on the command line stands for."""
    if name == "rules":
        return [Contestant(rule, (parse_policy(rule),)) for rule in SINGLE_RULES]
    if name == TUNED:
        return [Contestant(name, (TUNED_RULE,))]
    if name == CLAIRVOYANT:
        return [Contestant(name, (_planner(None, REFERENCE),))]
    if name == PLANNER:
        learned = before[0].policies[0] if before and isinstance(before[0].policies[0], LearnedPolicy) else None
        return [Contestant(name, (_planner(learned, UNHURRIED),))]
    if name == SERVICE:
        learned = before[0].policies[0] if before and isinstance(before[0].policies[0], LearnedPolicy) else None
        return [Contestant(name, (as_served(_planner(learned, UNHURRIED)),))]
    if name.startswith(WITHOUT):
        lever = name.removeprefix(WITHOUT)
        if lever not in _LEVERS or not (before and isinstance(before[0].policies[0], LearnedPolicy)):
            raise InvalidInputError("--policies", name, f"is for {', '.join(_LEVERS)}, after a bundle that comes first")
        return [Contestant(name, (without_lever(before[0].policies[0], lever),))]
    if name == DEFAULT_RULE:
        return [Contestant(name, (default_rule(),))]
    if name == SEEDS:
        if not bundles:
            raise InvalidInputError("--policies", SEEDS, "needs --bundles with one folder per training seed")
        read = [read_bundle(Path(folder)) for folder in bundles]
        policies = tuple(replace(bundle, name=SEEDS).policy() for bundle in read)
        return [Contestant(name, policies, training_seeds=tuple(bundle.provenance.get("seed") for bundle in read))]
    if name == "shipped":
        return [_from_bundle(name, SHIPPED)]
    label, equals, folder = name.partition("=")
    if name == REGRESSED:
        return [_from_bundle(name, REGRESSED_BUNDLE)]
    if equals and folder.endswith(".json"):
        return [Contestant(label, (replace(read_rule(Path(folder)), label=label),))]
    if equals or (Path(name) / WEIGHTS).exists():
        return [_from_bundle(label if equals else Path(name).name, Path(folder or name))]
    return [Contestant(name, (parse_policy(name),))]


def default_rule() -> RulePolicy:
    """What a controller does without a setting."""
    return parse_policy(str(Settings.model_fields["policy"].default))


def _planner(learned: LearnedPolicy | None, config: PlannerConfig) -> Planner:
    base = TUNED_RULE if learned is None else learned.base
    return Planner(inner=learned or base, base=base, config=config)


def _from_bundle(name: str, folder: Path) -> Contestant:
    """The policy of a bundle, with the hash of its weights, which the promotion gate asks for."""
    bundle = read_bundle(folder)
    sha256 = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["weights_sha256"]
    return Contestant(name, (as_served(bundle.agent()),), str(sha256), (bundle.provenance.get("seed"),))
