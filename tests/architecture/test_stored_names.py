"""Names that stay on users' servers, in their databases and in their files are listed, every one, in one page."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.stored_state import EXPECTED

ROOT = Path(__file__).parents[2]
WHEEL = ROOT / "prefect_intelligent"
PAGE = (ROOT / "docs" / "reference" / "stored-names.md").read_text("utf-8")

OURS = re.compile(
    r"prefect-intelligent[-.:/ ]|prefect_intelligent_|prefect_intelligent\.\w+\.|PREFECT_INTELLIGENT_|pi[_.-]\w"
)
"""How everything begins that we name on a server, in a database or in MLflow."""
NOT_STORED = {
    "cli": "texts for people",
    "settings/": "settings of a process",
    "__init__.py": "where the public names are imported from",
    "steering/preflight.py": "advice to people",
    "wiring/preflight.py": "the same",
}
PASSING = {
    "PREFECT_INTELLIGENT_DATA_DIR": "a setting",
    "prefect-intelligent-check": "name of a thread",
    "prefect-intelligent-hook": "name of a thread",
    "prefect-intelligent-": "name of a scratch folder",
    "prefect_intelligent.capacity.adapters.fleet_worker": "a module that is started",
}


@cache
def modules() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text("utf-8"))) for path in sorted(WHEEL.rglob("*.py"))]


@cache
def source() -> str:
    return "".join(path.read_text("utf-8") for folder in (WHEEL, ROOT / "flows") for path in folder.rglob("*.py"))


def docstrings(tree: ast.Module) -> set[int]:
    """Ids of the constants that only say something."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def texts(tree: ast.Module) -> Iterator[str]:
    """Literals of a module, as patterns: whatever is put into an f-string is <something> in the page."""
    said = docstrings(tree)
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [re.escape(p.value) if isinstance(p, ast.Constant) else "<[a-z ]+>" for p in node.values]
            yield "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said | inside:
            yield re.escape(node.value)


def constants() -> dict[str, dict[str, str]]:
    """Module to the texts that it gives a name to, imported ones included."""
    own: dict[str, dict[str, str]] = {}
    trees = {".".join(path.relative_to(ROOT).with_suffix("").parts): tree for path, tree in modules()}
    for name, tree in trees.items():
        own[name] = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        }
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in own:
                for alias in node.names:
                    if alias.name in own[node.module]:
                        own[name].setdefault(alias.asname or alias.name, own[node.module][alias.name])
    return own


def first_arguments(call: str, arity: int, keyword: str | None = None) -> set[str]:
    """Texts given first to the method of that name, called with so many arguments, or with that keyword."""
    known, found = constants(), set()
    for path, tree in modules():
        named = known[".".join(path.relative_to(ROOT).with_suffix("").parts)]
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == call):
                continue
            if len(node.args) == arity and (keyword is None or keyword in {each.arg for each in node.keywords}):
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    found.add(str(first.value))
                elif isinstance(first, ast.Name) and first.id in named:
                    found.add(named[first.id])
    return found


def test_every_name_that_begins_with_ours_is_in_the_page() -> None:
    missing = []
    for path, tree in modules():
        place = str(path.relative_to(WHEEL))
        if any(place.startswith(skipped) for skipped in NOT_STORED):
            continue
        for pattern in texts(tree):
            plain = pattern.replace("\\", "")
            if OURS.match(plain) and plain not in PASSING and not re.search(pattern, PAGE):
                missing.append(f"{place}: {plain}")
    assert not missing, "\n".join(missing)


def test_every_kind_of_record_is_in_the_page() -> None:
    kinds = first_arguments("append", 4)
    assert kinds >= EXPECTED["kinds"].keys()
    assert [kind for kind in sorted(kinds) if f"`{kind}`" not in PAGE] == []


def test_every_kind_of_line_of_the_spool_is_in_the_page() -> None:
    kinds = first_arguments("append", 2, "event_id")
    assert kinds >= {"flow_run", "decision", "quality", "quality_request", "announcement"}
    assert [kind for kind in sorted(kinds) if f"`{kind}`" not in PAGE] == []


def test_every_event_about_a_pool_is_in_the_page() -> None:
    events = first_arguments("emit", 2)
    assert events >= {"decision", "restored", "adopted", "alert.opened", "alert.resolved"}
    assert [event for event in sorted(events) if f"`prefect-intelligent.{event}`" not in PAGE] == []


def test_what_the_page_lists_is_in_the_code() -> None:
    """As it stands there, or word for word where the name is put together of several."""
    listed = re.findall(r"^\| `([^`]+)`", PAGE, re.MULTILINE)
    assert len(listed) > 70
    for name in listed:
        fixed = re.split(r"<[a-z ]+>", name)
        words = {word for part in fixed for word in re.split(r"[-.: ]", part) if word}
        assert any(part in source() for part in fixed if len(part) > 3) or all(word in source() for word in words), name
