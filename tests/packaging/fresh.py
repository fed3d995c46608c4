"""The wheel of this checkout, and fresh environments to install it into."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder
from uv import find_uv_bin

ROOT = Path(__file__).parents[2]


def index_url():
    """The package index of this machine: what pip is told, else PyPI."""
    pip = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    told = subprocess.run(pip, capture_output=True, text=True).stdout.strip()
    return os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or told or "https://pypi.org/simple"


def why_no_index(url):
    """None if the index can be reached, else a sentence for `pytest.skip`."""
    try:
        urllib.request.urlopen(f"{url.rstrip('/')}/uv/", timeout=20).close()
    except urllib.error.HTTPError:
        return None  # it has answered
    except OSError as error:
        return f"no package index can be reached from here: {error}"
    return None


def run(*command, cwd):
    """Run a command outside of this environment; it must succeed."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env |= {"UV_DEFAULT_INDEX": index_url(), "UV_PYTHON_DOWNLOADS": "never", "PREFECT_HOME": str(cwd / "home")}
    done = subprocess.run(command, env=env, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout


def build_wheel(folder):
    """The wheel of this checkout, in that folder."""
    return Path(next(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])))


def make_venv(folder):
    """An environment without anything."""
    run(find_uv_bin(), "venv", "--python", sys.executable, folder, cwd=folder.parent)
    return folder


def install(venv, wheel, extra="", *, pinned=True):
    """Install the wheel with an extra, with the versions of constraints.txt or with the newest."""
    wanted = f"prefect-intelligent[{extra}] @ {wheel.as_uri()}"
    versions = ["-c", str(ROOT / "constraints.txt")] if pinned else ["--upgrade"]
    run(find_uv_bin(), "pip", "install", "--python", venv / "bin" / "python", *versions, wanted, cwd=venv.parent)
