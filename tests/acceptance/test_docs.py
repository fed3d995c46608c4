"""What the documentation shows is run, and what it lists is compared with the code.

A block whose fence says `python runnable` or `console runnable` is executed. The blocks of a page share a folder and
run in order. In a console block each line after `$ ` is a command for bash; the lines below it must occur in its
output, in order. The commands find a Prefect server with a work pool `etl` (limit 2, queues with runs that wait).
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from prefect_intelligent.cli import main
from tests.acceptance.reference_pages import PAGES, pages

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```(python|console) runnable\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def blocks(page):
    return _BLOCK.findall(page.read_text())


RUNNABLE = sorted(page for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")] if blocks(page))


@pytest.fixture
def desk(prefect_server, prefect_api, api, tmp_path, monkeypatch):
    """A folder to work in, an environment, and the pool `etl`."""
    folder = tmp_path / "desk"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    api.call("DELETE", "/work_pools/etl", ok=False)
    api.pool("etl", limit=2)
    for number, queue in enumerate(("backfill", "report")):
        api.queue("etl", queue, priority=10 * (number + 1))
        api.run(api.deployment("etl", queue, flow=queue), in_s=-5)
    return prefect_server.env()


@pytest.mark.server
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_runs(page, desk, capsys):
    for kind, text in blocks(page):
        if kind == "python":
            code, out = run([sys.executable, "-c", text], desk)
            assert code == 0, f"{page.name}:\n{text}\n{out}"
            continue
        for command, expected in commands(text):
            code, out = typed(command, desk, capsys)
            assert code == 0, f"{page.name}: {command}\n{out}"
            at = 0
            for line in expected:
                found = out.find(line, at)
                assert found >= 0, f"{page.name}: {command}\nshould print {line!r} but printed\n{out}"
                at = found + len(line)


def typed(command, env, capsys):
    """Exit code and output of a command; ours is called in this process, which saves two seconds each time."""
    words = shlex.split(command)
    allowed_to_fail = words[-2:] == ["||", "true"]
    if words[0] != "prefect-intelligent":
        return run(["bash", "-c", command], env)
    capsys.readouterr()
    code = main(words[1:-2] if allowed_to_fail else words[1:])
    return 0 if allowed_to_fail else code, "".join(capsys.readouterr())


def run(command, env):
    done = subprocess.run(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240)
    return done.returncode, done.stdout


def commands(text):
    """Each command of a console block with the lines it should print."""
    found = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.strip():
            found[-1][1].append(line.strip())
    return found


@pytest.mark.parametrize("name", sorted(pages()))
def test_reference_pages_are_those_of_the_code(name):
    written = (PAGES / name).read_text()
    assert written == pages()[name], "run `python -m tests.acceptance.reference_pages` and commit"


def test_links_between_pages_lead_somewhere():
    broken = []
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]:
        for target in _LINK.findall(page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_a_command_block_is_read_as_written():
    assert commands("$ a b\none\n\n$ c\n") == [("a b", ["one"]), ("c", [])]
