"""A bundle comes back as it was written, and nothing that does not fit is taken."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy import RulePolicy, parse_policy
from prefect_intelligent.policy.bundle import MANIFEST, WEIGHTS, Bundle, load_first, read_bundle, write_bundle
from prefect_intelligent.policy.network import weight_shapes


def weights(width: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: (np.ones(shape) if name.endswith(".std") else rng.normal(0, 0.3, shape)).astype(np.float32)
        for name, shape in weight_shapes(width).items()
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = RulePolicy(priority="blend", capacity="lookahead", limits="share")
    write_bundle(Bundle(name="test", base=base, weights=weights(), margin=0.1, provenance={"seed": 3}), tmp_path)
    return tmp_path


def edit(folder: Path, **values: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | values))


def test_reads_back_what_was_written(folder: Path) -> None:
    bundle = read_bundle(folder)
    assert bundle.base.name == "blend+lookahead+share"
    assert (bundle.name, bundle.margin, bundle.provenance) == ("test", 0.1, {"seed": 3})
    assert all(np.array_equal(bundle.weights[name], array) for name, array in weights().items())


def test_same_weights_same_bytes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    write_bundle(read_bundle(folder), other)
    assert (folder / WEIGHTS).read_bytes() == (other / WEIGHTS).read_bytes()


def test_weights_with_a_flipped_bit_are_refused(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(InvalidInputError, match="sha256"):
        read_bundle(folder)


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS])
def test_truncated_and_missing_files_are_refused(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidInputError):
        read_bundle(folder)
    (folder / name).unlink()
    with pytest.raises(InvalidInputError, match="no readable"):
        read_bundle(folder)


def test_another_encoder_version_is_refused_by_name(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    edit(folder, interface=manifest["interface"] | {"encoding_version": 999})
    with pytest.raises(InvalidInputError, match="other encoding_version"):
        read_bundle(folder)


@pytest.mark.parametrize(
    "values",
    [{"format": "other/1"}, {"margin": -1}, {"margin": "x"}, {"base": None}, {"base": {"priority": "nope"}}],
)
def test_unusable_manifests_are_refused(folder: Path, values: dict[str, object]) -> None:
    edit(folder, **values)
    with pytest.raises(InvalidInputError):
        read_bundle(folder)


def rewrite(folder: Path, members: dict[str, bytes]) -> None:
    """Replace the weights, with the right hash: what a careless or hostile exporter would send."""
    import hashlib

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    (folder / WEIGHTS).write_bytes(buffer.getvalue())
    edit(folder, weights_sha256=hashlib.sha256(buffer.getvalue()).hexdigest())


def test_a_pickle_inside_is_never_loaded(folder: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "exploded",))  # type: ignore[return-value]

    member = io.BytesIO()
    np.lib.format.write_array(member, np.array([Bomb()], dtype=object), allow_pickle=True)
    rewrite(folder, {"encoder_1.bias.npy": member.getvalue()})
    with pytest.raises(InvalidInputError):
        read_bundle(folder)
    rewrite(folder, {"encoder_1.bias.npy": pickle.dumps(Bomb())})
    with pytest.raises(InvalidInputError):
        read_bundle(folder)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("spoil", ["nan", "shape", "missing"])
def test_arrays_that_form_no_network_are_refused(folder: Path, spoil: str) -> None:
    arrays = weights()
    if spoil == "nan":
        arrays["trunk.bias"][0] = np.nan
    elif spoil == "shape":
        arrays["trunk.bias"] = arrays["trunk.bias"][:-1]
    else:
        del arrays["trunk.bias"]
    members = {}
    for name, array in arrays.items():
        member = io.BytesIO()
        np.lib.format.write_array(member, array)
        members[f"{name}.npy"] = member.getvalue()
    rewrite(folder, members)
    with pytest.raises(InvalidInputError):
        read_bundle(folder)


def test_the_last_good_bundle_then_the_rule_is_taken(folder: Path, tmp_path: Path) -> None:
    rule, said = parse_policy("edf"), []
    assert load_first([tmp_path / "none", folder], rule, said.append).name == "test"
    assert len(said) == 1
    assert load_first([tmp_path / "none"], rule) is rule
