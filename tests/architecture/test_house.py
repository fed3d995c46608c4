"""The house by feature: each room has a map, no name has two meanings, no room looks into another's drawers."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHEEL = ROOT / "prefect_intelligent"
CODE = ("prefect_intelligent", "simulations", "rl", "flows", "benchmarks")
FEATURES = (
    "analytics", "blocking", "capacity", "forecasting", "history", "model_registry", "pipelines", "prevention",
    "quality", "recommendations", "replay", "steering", "tracking", "twin",
)  # fmt: skip
ROOMS = (*FEATURES, "cli", "dashboard", "domain", "flow", "local", "policy", "prefect_client", "settings", "wiring")
MOST_MODULES = 24


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def test_a_class_name_has_one_meaning() -> None:
    places = defaultdict(list)
    for path in sources("prefect_intelligent"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(WHEEL)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_nobody_imports_what_another_package_keeps_to_itself() -> None:
    found = []
    for path in sources(*CODE):
        here = ".".join(path.relative_to(ROOT).parts[:-1])
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in CODE:
                package = (
                    node.module if (ROOT / node.module.replace(".", "/")).is_dir() else node.module.rpartition(".")[0]
                )
                private = [alias.name for alias in node.names if re.match(r"_[^_]", alias.name)]
                if private and package != here:
                    found.append(f"{path.relative_to(ROOT)} takes {', '.join(private)} of {node.module}")
    assert found == []


def test_no_folder_is_a_heap() -> None:
    counts = {
        str(folder.relative_to(ROOT)): len(list(folder.glob("*.py")))
        for package in ("prefect_intelligent", "simulations", "rl", "flows")
        for folder in [ROOT / package, *(p for p in (ROOT / package).rglob("*") if p.is_dir())]
    }
    del counts["prefect_intelligent/cli"]  # its files are its commands
    assert {name: count for name, count in counts.items() if count > MOST_MODULES} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_a_map_that_is_true(room: str) -> None:
    text = ast.get_docstring(ast.parse((WHEEL / room / "__init__.py").read_text("utf-8")))
    assert text is not None
    head, _, rest = text.partition("Read first:\n")
    assert head.strip(), "what it is for"
    named = re.findall(r"^    (\S+)  +\S", rest, re.MULTILINE)
    assert len(named) == 3, f"three files to read first, not {named}"
    for name in named:
        assert (WHEEL / room / name).exists(), f"{name} does not exist"
    for page in re.findall(r"docs/\S+\.md", rest):
        assert (ROOT / page).is_file(), f"{page} does not exist"
    if room in FEATURES:
        assert re.search(r"^Command: +\S", rest, re.MULTILINE)
        assert re.search(r"^How-to: +\S", rest, re.MULTILINE)
    for port in re.findall(r"`ports\.(\w+)`", rest):
        assert re.search(rf"^class {port}\b", (WHEEL / room / "ports.py").read_text("utf-8"), re.MULTILINE), port


@pytest.mark.parametrize("feature", FEATURES)
def test_tests_lie_where_their_subject_lies(feature: str) -> None:
    places = [ROOT / "tests" / kind / feature for kind in ("unit", "integration")]
    assert any(place.is_dir() and list(place.glob("test_*.py")) for place in places)
