"""The bundle: an exported policy in a folder, `manifest.json` and `weights.npz`, numbers and text without code.

The manifest names the format and the encoder version, the base rule, the margin, the sha256 of the weights, where the
policy comes from and how it was evaluated. Reading refuses a bundle that does not fit; `load_first` then tries the next
one and in the end returns the rule.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError
from prefect_intelligent.policy.actions import CAPACITY_FACTORS, PLACES, SHARES
from prefect_intelligent.policy.base import Policy
from prefect_intelligent.policy.encoding import ENCODING_VERSION, POOL_FEATURES, QUEUE_FEATURES, Array32
from prefect_intelligent.policy.learned import LearnedPolicy
from prefect_intelligent.policy.network import Network
from prefect_intelligent.policy.planner import Planner, PlannerConfig
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.policy.rule_parameters import RuleParameters
from prefect_intelligent.policy.rule_policy import RulePolicy

FORMAT: Final = "prefect-intelligent-policy/1"
MANIFEST: Final = "manifest.json"
WEIGHTS: Final = "weights.npz"
SHIPPED: Final = Path(__file__).with_name("shipped")
"""Folder of the bundle that the wheel contains."""
IDLE_FRACTION: Final = "idle_fraction"
"""Name in `Bundle.evaluation` of the largest `Prices.idle_fraction` on the days of its figures."""
_MOST_BYTES: Final = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An exported policy.

    Attributes:
        name: Short name.
        base: The rule that the network corrects.
        weights: Arrays by name, see `network.weight_shapes`.
        margin: See `LearnedPolicy`.
        provenance: How it was made: commit, seeds, configuration, number of steps; JSON-ready.
        evaluation: Results of its evaluation; JSON-ready.
        regime: How it was trained and evaluated; None if that is not known.
        planner: How it looks ahead in the twin before it decides; None if it does not.
    """

    name: str
    base: RulePolicy
    weights: Mapping[str, Array32]
    margin: float = 0.0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    regime: Regime | None = None
    planner: PlannerConfig | None = None

    def agent(self) -> Policy:
        """What a controller runs: the policy, with its planner if it has one."""
        if self.planner is None:
            return self.policy()
        return Planner(inner=self.policy(), base=self.base, config=self.planner)

    def policy(self) -> LearnedPolicy:
        """The policy without its planner, ready to decide."""
        return LearnedPolicy(name=self.name, base=self.base, network=Network(self.weights), margin=self.margin)


def interface() -> dict[str, Any]:
    """The encoder version, features and levels on which a bundle and the code that runs it must agree."""
    return {
        "encoding_version": ENCODING_VERSION,
        "queue_features": list(QUEUE_FEATURES),
        "pool_features": list(POOL_FEATURES),
        "capacity_factors": list(CAPACITY_FACTORS),
        "places": list(PLACES),
        "shares": [None if math.isinf(share) else share for share in SHARES],
    }


def write_bundle(bundle: Bundle, folder: Path) -> str:
    """Write a bundle, each file in one step, and return the sha256 of its weights.

    Raises:
        InvalidInputError: The weights do not form a network.
    """
    network = Network(bundle.weights)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(network.weights):  # fixed dates: the same weights give the same bytes
            member = io.BytesIO()
            np.lib.format.write_array(member, network.weights[name], allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    data = buffer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    manifest = {
        "format": FORMAT,
        "name": bundle.name,
        "interface": interface(),
        "base": {
            "priority": bundle.base.priority,
            "capacity": bundle.base.capacity,
            "limits": bundle.base.limits,
            "parameters": bundle.base.parameters.to_dict(),
        },
        "margin": bundle.margin,
        "weights_sha256": digest,
        "provenance": dict(bundle.provenance),
        "evaluation": dict(bundle.evaluation),
        "regime": None if bundle.regime is None else bundle.regime.to_dict(),
        "planner": None if bundle.planner is None else asdict(bundle.planner),
    }
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / WEIGHTS, data)
    _write(folder / MANIFEST, (json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())
    return digest


def read_bundle(folder: Path) -> Bundle:
    """Read and check a bundle.

    Raises:
        InvalidInputError: Something is missing, damaged, not of this version or not finite; the message says what.
    """
    manifest = _read_manifest(folder)
    theirs = manifest.get("interface")
    if theirs != interface():
        ours = interface()
        wrong = [key for key in ours if not isinstance(theirs, dict) or theirs.get(key) != ours[key]]
        raise InvalidInputError(
            f"bundle {folder}", f"other {', '.join(wrong)}", "trained for another version; export the policy again"
        )
    try:
        data = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise InvalidInputError(f"bundle {folder}", f"no readable {WEIGHTS}", "copy the bundle again") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != manifest.get("weights_sha256"):
        raise InvalidInputError(f"bundle {folder}", f"sha256 {digest[:12]}", "weights are damaged; copy them again")
    weights = _read_weights(folder, data)
    base, margin = manifest.get("base"), manifest.get("margin")
    if not isinstance(base, dict) or isinstance(margin, bool) or not isinstance(margin, int | float) or margin < 0:
        raise InvalidInputError(f"bundle {folder}", {"base": base, "margin": margin}, "the manifest is not usable")
    rule = RulePolicy(
        priority=str(base.get("priority")),
        capacity=str(base.get("capacity")),
        limits=str(base.get("limits")),
        parameters=RuleParameters.from_dict(base.get("parameters") or {}),
    )
    Network(weights)
    return Bundle(
        name=str(manifest.get("name")),
        base=rule,
        weights=weights,
        margin=float(margin),
        provenance=manifest.get("provenance") or {},
        evaluation=manifest.get("evaluation") or {},
        regime=None if (regime := manifest.get("regime")) is None else Regime.from_dict(regime),
        planner=None if (planner := manifest.get("planner")) is None else _read_planner(folder, planner),
    )


def load_first(folders: Iterable[Path], rule: Policy, refused: Callable[[str], None] | None = None) -> Policy:
    """The policy of the first bundle that can be read, else `rule`.

    Args:
        folders: The bundle wanted, then the last good one, and so on.
        rule: Returned if none can be read.
        refused: Called with one sentence for each bundle that was not taken.
    """
    for folder in folders:
        try:
            return read_bundle(folder).agent()
        except PrefectIntelligentError as error:
            if refused is not None:
                refused(str(error))
    return rule


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(f"bundle {folder}", f"no readable {MANIFEST}", "name a folder with a bundle") from error
    except ValueError as error:
        raise InvalidInputError(f"bundle {folder}", f"a {MANIFEST} that is not JSON", "copy it again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise InvalidInputError(f"bundle {folder}", found, f"must have the format {FORMAT!r}")
    return manifest


def _read_planner(folder: Path, table: Any) -> PlannerConfig:
    try:
        return PlannerConfig(**table)
    except TypeError as error:
        raise InvalidInputError(f"bundle {folder}", {"planner": table}, "the manifest is not usable") from error


def _read_weights(folder: Path, data: bytes) -> dict[str, Array32]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
                raise ValueError("too large")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: np.asarray(archive[name], dtype=np.float32) for name in archive.files}
    except (ValueError, TypeError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInputError(f"bundle {folder}", f"unreadable {WEIGHTS} ({error})", "copy it again") from error


def _write(path: Path, data: bytes) -> None:
    """Write a file so that readers see all of it or nothing."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)  # other users than its writer read a bundle
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
