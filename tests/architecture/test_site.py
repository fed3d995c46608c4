"""The documentation site: one list of its pages, links that lead somewhere, and one home of the project."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def load_site():
    spec = importlib.util.spec_from_file_location("site_build", ROOT / "docs" / "_site" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SITE = load_site()
LLMS = (ROOT / "docs" / "llms.txt").read_text()


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    return folder, SITE.lay_out(folder)


def places(nav):
    """Every page that a navigation leads to."""
    for entry in nav:
        for target in entry.values() if isinstance(entry, dict) else [entry]:
            yield from [target] if isinstance(target, str) else places(target)


def test_the_list_of_pages_has_each_page_once():
    listed = [target for target in LINK.findall(LLMS) if "://" not in target]
    assert sorted(listed) == sorted(str(path.relative_to(ROOT / "docs")) for path in ROOT.glob("docs/**/*.md"))


def test_the_list_of_pages_has_the_form_that_programs_expect():
    lines = [line for line in LLMS.splitlines() if line]
    assert re.fullmatch(r"# \S.*", lines[0])
    assert lines[1].startswith("> ")
    entries = [line for line in lines if line.startswith("- ")]
    assert [line for line in entries if not re.fullmatch(r"- \[[^]]+\]\([^)]+\): \S.*", line)] == []


def test_the_navigation_leads_to_every_page(laid_out):
    folder, nav = laid_out
    assert sorted(places(nav)) == sorted(str(path.relative_to(folder)) for path in folder.rglob("*.md"))


def test_links_of_the_site_lead_somewhere(laid_out):
    folder, _ = laid_out
    broken = []
    for page in [*folder.rglob("*.md"), folder / "llms.txt"]:
        for target in LINK.findall(page.read_text()):
            if target.startswith(SITE.REPOSITORY):
                there = ROOT / target.removeprefix(SITE.REPOSITORY)
            elif "://" in target:
                continue
            else:
                there = page.parent / target
            if not there.exists():
                broken.append(f"{page.relative_to(folder)}: {target}")
    assert broken == []


def test_what_users_import_has_a_page():
    named = {name for name, _ in SITE.modules()}
    assert {"prefect_intelligent", *(f"prefect_intelligent.{name}" for name in SITE.IMPORTED)} <= named


def test_the_project_has_one_home():
    home = SITE.REPOSITORY.removesuffix("/blob/main/")
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert {name for name, url in urls.items() if not url.startswith(home)} == set()
    files = [ROOT / "SECURITY.md", ROOT / "docs" / "_site" / "mkdocs.yml", *ROOT.glob(".github/**/*.yml")]
    told = {url for file in files for url in re.findall(r"https://github\.com/[\w-]+/[\w-]+", file.read_text())}
    assert told == {home}
