"""The files of a fleet: who lives is known by a lock, which ends with its process."""

import subprocess
import sys

from prefect_intelligent.capacity.adapters.fleet_files import FleetFolder, WorkerReport

HOLD = """
import sys
from pathlib import Path
from prefect_intelligent.capacity.adapters.fleet_files import FleetFolder, WorkerReport
folder = FleetFolder(Path(sys.argv[1]))
assert folder.lock("w").take()
folder.report("w", WorkerReport(slots=2, busy=1, pid=1))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_worker_lives_as_long_as_its_process_also_if_that_is_killed(tmp_path):
    folder = FleetFolder(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        assert folder.alive() == ("w",)
        assert not folder.lock("w").take()
        assert dict(folder.reports())["w"].busy == 1
        process.kill()
        process.wait()
        assert folder.alive() == ()
        assert folder.lock("w").take()
    finally:
        process.kill()
        process.communicate()


def test_requests_and_what_cannot_be_read(tmp_path):
    folder = FleetFolder(tmp_path / "new" / "folder")
    folder.ask_to_drain("w")
    assert folder.is_asked_to_drain("w")
    folder.ask_to_stay("w")
    folder.ask_to_stay("w")
    assert not folder.is_asked_to_drain("w")
    lock = folder.lock("w")
    assert lock.take()
    (folder.path / "w.json").write_text("{")
    assert folder.alive() == ("w",)
    assert list(folder.reports()) == []
    (folder.path / "w.json").write_text('{"slots": 3, "of_a_newer_version": 1}')
    assert folder.read("w") == WorkerReport(slots=3)
    lock.release()
    folder.forget("w")
    folder.forget("w")
    assert folder.read("w") is None
