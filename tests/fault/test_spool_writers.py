"""Several processes write while one is killed and a reader takes segments away: nothing acknowledged is lost."""

import subprocess
import sys
import time

from prefect_intelligent.local.spool import Spool

_WRITER = """
import sys
from prefect_intelligent.local import spool as module
from prefect_intelligent.local.spool import Spool
module._PATIENCE_S = 120.0  # one that gives up on the lock writes a segment of its own, out of order
folder, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
spool = Spool(folder, segment_bytes=20_000)
for i in range(count):
    spool.append("n", {"i": i, "pad": "x" * 80}, event_id=f"{name}:{i}")
    if name == "victim":
        print(i, flush=True)
"""


def test_eight_writers_ten_thousand_records_one_killed(tmp_path):
    folder = tmp_path / "spool"
    victim = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(folder), "victim", "1000000"], stdout=subprocess.PIPE, text=True
    )
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(folder), f"w{n}", "1250"]) for n in range(8)]
    spool, seen = Spool(folder), []

    def collect():
        for segment in spool.segments():
            taken = spool.take(segment)
            if taken is not None:
                seen.extend(entry.id for entry in spool.read(taken)[0])
                spool.remove(taken)

    acknowledged = -1
    assert victim.stdout is not None
    for line in victim.stdout:
        acknowledged = int(line)
        if acknowledged == 500:
            victim.kill()
            break
    acknowledged = max([acknowledged, *(int(line) for line in victim.stdout.read().split())])
    victim.wait()
    while any(writer.poll() is None for writer in writers):
        spool.seal()
        collect()
        time.sleep(0.01)
    assert spool.seal()
    collect()

    assert all(writer.returncode == 0 for writer in writers)
    assert len(seen) == len(set(seen)), "a record was read twice"
    expected = {f"w{n}:{i}" for n in range(8) for i in range(1250)} | {f"victim:{i}" for i in range(acknowledged + 1)}
    assert expected <= set(seen)
    for n in range(8):
        mine = [int(name.split(":")[1]) for name in seen if name.startswith(f"w{n}:")]
        assert mine == sorted(mine), "the order of one writer changed"
