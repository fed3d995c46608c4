"""A flow's process beside OpenTelemetry and MLflow: its spans are the user's, and it never talks to MLflow itself."""

import json
import socket
import subprocess
import sys
from collections import Counter

import pytest

from prefect_intelligent.local.spool import Spool

pytest.importorskip("opentelemetry.sdk", reason="needs opentelemetry-sdk")
pytest.importorskip("soda_core", reason="needs the extra quality")
pytestmark = pytest.mark.server

FLOW = """
import json, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)  # as `opentelemetry-instrument` does before the flow is imported

import pandas as pd
from prefect import flow
from prefect_intelligent import intelligent, quality_gate

CONTRACT = "dataset: ds/main/t\\ncolumns: [{name: a, checks: [{missing: {}}]}]"


@intelligent(deadline="1h", late_usd_per_hour=1.0)
@flow(name="soda-like-name")
def load():
    return str(quality_gate(CONTRACT, pd.DataFrame({"a": [1, 2]})).outcome)


outcome = load()
spans = exporter.get_finished_spans()
by_id = {span.context.span_id: span.name for span in spans}
told = {
    "outcome": outcome,
    "spans": {span.name: by_id.get(span.parent.span_id) if span.parent else None for span in spans},
    "scopes": sorted({span.instrumentation_scope.name for span in spans}),
    "ours": trace.get_tracer_provider() is provider,
    "heavy": [name for name in ("mlflow", "torch", "numba") if name in sys.modules],
}
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def ran(prefect_server, tmp_path_factory):
    """What the flow tells, its data folder, and a silent MLflow server that it was pointed at."""
    home = tmp_path_factory.mktemp("telemetry")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        silent.setblocking(False)
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        env = prefect_server.env(PREFECT_INTELLIGENT_DATA_DIR=str(home), MLFLOW_TRACKING_URI=uri)
        out = subprocess.run([sys.executable, "-c", FLOW], env=env, cwd=home, capture_output=True, text=True)
        assert out.returncode == 0, out.stderr[-2000:]
        yield json.loads(out.stdout.splitlines()[-1]), home, silent


def test_a_flow_leaves_its_records_and_never_talks_to_mlflow(ran):
    told, home, silent = ran
    with pytest.raises(BlockingIOError):  # nobody has called
        silent.accept()
    assert told["heavy"] == []
    spool = Spool(home / "spool")
    assert spool.seal()
    kinds = Counter(entry.kind for segment in spool.segments() for entry in spool.read(segment)[0])
    assert kinds == {"flow_run": 2, "quality": 1}  # running and completed; the gate


def test_a_flow_and_its_gate_are_spans_of_the_provider_that_the_user_set_up(ran):
    told, _, _ = ran
    assert told["outcome"] == "passed"
    assert told["ours"]  # neither Soda nor MLflow has taken the global provider
    assert told["scopes"] == ["prefect"]
    (gate,) = [name for name in told["spans"] if name.startswith("quality-gate")]
    (run,) = [name for name in told["spans"] if name != gate]
    assert told["spans"] == {gate: run, run: None}
