"""The ten lines of docs/reference/environment.md run, and stable-baselines3 learns with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("stable_baselines3")

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "environment.md"


def test_the_ten_lines_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    """With fewer worlds and updates."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    for given, smaller in (("(64, ", "(4, "), (", 64)", ", 4)"), ("UPDATES = 16", "UPDATES = 1")):
        assert given in code, given
        code = code.replace(given, smaller)
    names: dict[str, Any] = {}
    exec(code, names)
    assert "rollout/" in capsys.readouterr().out
    mean, _ = names["saved"]
    assert -100 < mean < 300
