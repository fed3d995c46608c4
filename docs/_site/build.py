"""Builds the documentation site: `make docs`.

The pages are first laid out in one folder as plain Markdown, then rendered by MkDocs with the Material theme. So the
renderer can be exchanged: it needs mkdocstrings and nothing else, and Material for MkDocs is maintained until May 2027.

* The navigation is made of `docs/llms.txt`: one list of pages for readers and for programs.
* README, CHANGELOG, CONTRIBUTING and SECURITY become pages too.
* A link to a file of the repository that is not part of the site leads to the repository.
* Every module of the packages that users import gets a page for its docstrings.
* The Markdown of the pages is published beside them, where the links of `llms.txt` find it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"
REPOSITORY: Final = "https://github.com/prefect-intelligent/prefect-intelligent/blob/main/"
PACKAGE: Final = "prefect_intelligent"
IMPORTED: Final = ("domain", "errors", "policy", "settings", "testing")
"""What users import of the package, beside what it has itself; a folder or a file each."""

ROOT_PAGES: Final = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
_ENTRY: Final = re.compile(r"^- \[(?P<title>[^\]]+)\]\((?P<target>[^)]+)\)", re.MULTILINE)
_LINK: Final = re.compile(r"\]\((?P<target>[^)#\s:]+)(?P<anchor>#[^)]*)?\)")
_RUNNABLE: Final = re.compile(r"^(\s*```\w+) runnable$", re.MULTILINE)

Nav = list[Any]
"""Of MkDocs: a page's place, or its title and place, or a group's title and its `Nav`."""


def build(work: Path = ROOT / "build", site: Path = ROOT / "site") -> int:
    """Lay out and render the site; returns the exit code of MkDocs.

    Args:
        work: Folder for what is rendered.
        site: Folder for the site; whatever it holds is replaced.
    """
    pages = work / "docs"
    nav = lay_out(pages)
    config = yaml.safe_load((Path(__file__).parent / "mkdocs.yml").read_text("utf-8"))
    config |= {"docs_dir": str(pages), "site_dir": str(site), "nav": nav, "strict": True}
    config["theme"]["custom_dir"] = str(Path(__file__).parent / "theme")
    config["plugins"][1]["mkdocstrings"]["handlers"]["python"]["paths"] = [str(ROOT)]
    (work / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file", str(work / "mkdocs.yml")]
    done = subprocess.run(command, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    if done.returncode == 0:
        for page in pages.rglob("*.md"):
            place = page.relative_to(pages)
            if place.parts[0] != "api":
                shutil.copyfile(page, site / place)
    return done.returncode


def lay_out(folder: Path) -> Nav:
    """Write all pages and what they show into a folder, anew; returns the navigation."""
    shutil.rmtree(folder, ignore_errors=True)
    files = {DOCS / path: str(path) for path in _files_of_docs()}
    files |= {ROOT / name: place for name, place in ROOT_PAGES.items()}
    for source, place in files.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            target.write_text(_as_page(source, files), "utf-8")
        else:
            shutil.copyfile(source, target)
    api: Nav = []
    for module, place in modules():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"---\ntitle: {module}\n---\n\n::: {module}\n", "utf-8")
        branch = _branch(api, place.split("/")[1:-1])
        branch.append(place if place.endswith("/index.md") else {module.rpartition(".")[2]: place})
    return navigation((DOCS / "llms.txt").read_text("utf-8"), api)


def _files_of_docs() -> Iterator[Path]:
    """Every file that belongs to the site, by its place in `docs/`."""
    for path in sorted(DOCS.rglob("*")):
        if path.is_file() and not path.is_relative_to(Path(__file__).parent):
            yield path.relative_to(DOCS)


def _as_page(source: Path, files: Mapping[Path, str]) -> str:
    """A page of the repository as a page of the site: its links lead on, and its fences are plain."""
    here = Path(files[source]).parent

    def lead(link: re.Match[str]) -> str:
        target = (source.parent / link["target"]).resolve()
        place = files.get(target) or _first_page(target, files)
        if place is not None:
            found = os.path.relpath(place, here)
        elif target.exists() and target.is_relative_to(ROOT):
            found = f"{REPOSITORY}{target.relative_to(ROOT)}"
        else:
            return link[0]  # MkDocs says that it leads nowhere
        return f"]({found}{link['anchor'] or ''})"

    return _RUNNABLE.sub(r"\1", _LINK.sub(lead, source.read_text("utf-8")))


def _first_page(folder: Path, files: Mapping[Path, str]) -> str | None:
    """The page that a link to a folder of `docs/` opens: the others are beside it in the navigation."""
    return min((place for path, place in files.items() if path.parent == folder and path.suffix == ".md"), default=None)


def modules() -> Iterator[tuple[str, str]]:
    """Name and page of each public module, packages before what they hold."""
    yield PACKAGE, "api/index.md"
    for name in IMPORTED:
        root = ROOT / PACKAGE / name
        for path in sorted(root.rglob("*.py")) if root.is_dir() else [root.with_suffix(".py")]:
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[-1] == "__init__":
                yield ".".join(parts[:-1]), "/".join(("api", *parts[1:-1], "index.md"))
            elif not any(part.startswith("_") for part in parts):
                yield ".".join(parts), "/".join(("api", *parts[1:])) + ".md"


def _branch(nav: Nav, packages: list[str]) -> Nav:
    """The list of pages of a package within the navigation; made if it is not there."""
    for package in packages:
        branch: dict[str, Nav] | None
        branch = next((entry for entry in nav if isinstance(entry, dict) and package in entry), None)
        if branch is None:
            nav.append(branch := {package: []})
        nav = branch[package]
    return nav


def navigation(llms: str, api: Nav) -> Nav:
    """The navigation: the sections of `llms.txt`; "Group: part" is a part of a group.

    Args:
        llms: The text of `llms.txt`.
        api: The pages of the modules, which follow the section "Reference".
    """
    nav: Nav = [{"Home": "index.md"}]
    for text in llms.split("\n## ")[1:]:
        title = text.partition("\n")[0].replace("Optional", "Project")
        entries = [(entry["title"], entry["target"].removeprefix(REPOSITORY)) for entry in _ENTRY.finditer(text)]
        pages = [{name: ROOT_PAGES.get(target, target)} for name, target in entries]
        group, _, part = title.partition(": ")
        if not part:
            nav.append({title: pages if len(pages) > 1 else entries[0][1]})
        elif group in nav[-1]:
            nav[-1][group].append({part.capitalize(): pages})
        else:
            nav.append({group: [{part.capitalize(): pages}]})
        if title == "Reference":
            nav.append({"API": api})
    return nav


if __name__ == "__main__":
    sys.exit(build())
