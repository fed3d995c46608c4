"""Help pages, what they import, and completion in the shell."""

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from prefect_intelligent.analytics.run_metrics import DIMENSIONS
from prefect_intelligent.cli import COMMANDS, OPTIONS, main
from prefect_intelligent.cli.graph import OnLate
from prefect_intelligent.cli.parsing import application
from prefect_intelligent.cli.report import Dimension
from prefect_intelligent.pipelines.project_file import LatePolicy
from prefect_intelligent.settings import Settings

NAMES = [name for commands in COMMANDS.values() for name in commands]

LOADED = """
import contextlib, io, json, os, sys
from prefect_intelligent.cli import main
words = json.loads(sys.argv[1])
with contextlib.redirect_stdout(io.StringIO()):
    main(words[0])
    for more in words[1:]:
        if os.fork() == 0:
            main(more)
            break
        if os.wait()[1]:
            raise SystemExit("a child failed")
sys.stderr.write(json.dumps({"words": words[0] if len(words) == 1 else more, "modules": sorted(sys.modules)}) + "\\n")
os._exit(0)
"""


def paths(words=()):
    """Words of every command and sub-command."""
    _, apps, _ = application().parse_commands(words)
    yield list(words)
    for name in apps[-1]:
        if not name.startswith("-"):
            yield from paths((*words, name))


def loaded_after(*words):
    """Words to the names of all modules that are imported when they have run in a process of their own."""
    out = subprocess.run([sys.executable, "-c", LOADED, json.dumps(words)], capture_output=True, text=True, check=True)
    return [(row["words"], set(row["modules"])) for row in map(json.loads, out.stderr.splitlines())]


def test_the_front_page_shows_every_command_once_and_is_quick(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0].rstrip(",") for line in out.splitlines() if line.startswith("  ") and line[2] != " "] == [
        *NAMES,
        *(option.split(",")[0] for option in OPTIONS),
    ]
    assert all(f"{title}:\n" in out for title in COMMANDS)
    for words in (["--help"], ["-h"], ["--version"]):
        ((_, modules),) = loaded_after(words)
        assert modules.isdisjoint({"cyclopts", "rich", "argparse", "pydantic", "prefect", "numpy"})


def test_help_imports_neither_prefect_nor_other_commands():
    others = {f"prefect_intelligent.cli.{name.replace('-', '_')}": name for name in NAMES}
    found = loaded_after(["--help"], *([name, "--help"] for name in NAMES))
    assert len(found) == len(NAMES) + 1
    for words, modules in found[:-1]:
        assert {others[module] for module in modules & others.keys()} == {words[0]}
        assert modules.isdisjoint({"prefect", "pydantic", "numpy", "pandas", "sqlalchemy", "networkx", "mlflow"}), words


@pytest.mark.parametrize("words", list(paths())[1:], ids=" ".join)
def test_every_page_fits_the_terminal_and_explains_everything(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*words, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"Usage: prefect-intelligent {' '.join(words)} ")
    assert max(map(len, out.splitlines())) <= 80
    _, apps, _ = application().parse_commands(words)
    assert apps[-1].help
    if apps[-1].default_command is not None:
        with application().app_stack(apps):
            arguments = apps[-1].assemble_argument_collection()
        assert [argument.name for argument in arguments if not argument.parameter.help] == []


def test_help_is_answered_wherever_it_stands(capsys):
    for words in (["control", "run", "--help"], ["control", "run", "--once", "-h"], ["control", "-h"]):
        assert main(words) == 0
        assert capsys.readouterr().out.startswith("Usage: prefect-intelligent control ")


def test_choices_are_those_of_the_features():
    assert get_args(Dimension) == DIMENSIONS
    assert get_args(OnLate) == get_args(LatePolicy)
    _, apps, _ = application().parse_commands(["control", "run"])
    with application().app_stack(apps):
        modes = {argument.name: argument.get_choices() for argument in apps[-1].assemble_argument_collection()}[
            "--mode"
        ]
    assert modes == get_args(Settings.model_fields["mode"].annotation)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_knows_commands_and_options(shell, capsys):
    assert main(["--show-completion", "--shell", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in (*NAMES, "quarantine", "restore-on-exit", "advise"))
    assert "no-restore-on-exit" not in script


def test_completion_is_installed_for_bash(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["--install-completion", "--shell", "bash"]) == 0
    script = Path(capsys.readouterr().out.removeprefix("wrote ").split(";")[0])
    assert str(script) in (tmp_path / ".bashrc").read_text()
    ask = (
        f"source {script}; COMP_WORDS=(prefect-intelligent control run --mode a); COMP_CWORD=4; "
        "_prefect_intelligent; echo ${COMPREPLY[*]}"
    )
    assert subprocess.run(["bash", "-c", ask], capture_output=True, text=True).stdout.split() == ["advise", "auto"]


def test_a_shell_that_cannot_be_told_is_asked_for(monkeypatch, capsys):
    from cyclopts.completion import ShellDetectionError

    def fail():
        raise ShellDetectionError("none")

    monkeypatch.setattr("cyclopts.completion.detect_shell", fail)
    assert main(["--show-completion"]) == 2
    assert capsys.readouterr().err.startswith("error: --shell: got None; ")


def test_an_option_may_be_given_again_and_the_last_counts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["config", "--config", "none.toml", "--config=other.toml"]) == 2
    assert "'other.toml'" in capsys.readouterr().err
