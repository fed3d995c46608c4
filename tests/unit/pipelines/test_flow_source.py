"""Reading datasets and calls from source without running it."""

from prefect_intelligent.pipelines.flow_source import read_source

SOURCE = """
from prefect import flow, task
from prefect.assets import Asset, materialize
from prefect.deployments import run_deployment
from prefect_intelligent import intelligent

CHILD = "report/prod"
CLEAN = Asset(key="s3://lake/clean.parquet")

@materialize(CLEAN, asset_deps=["s3://lake/raw.parquet"])
def write_clean(): ...

def helper():
    run_deployment(CHILD, parameters={"batch": "b", "other": compute()}, timeout=0)

@intelligent(inputs=["raw"], outputs=("clean",), deadline="2h", batch="day")
@flow
def clean(batch: str, *, fast: bool = False):
    write_clean()
    helper()
    run_deployment(name="audit/prod")
    run_deployment(f"dynamic/{batch}")

@flow(name="x")
async def quiet(): ...

def no_flow(): ...
"""


def test_declarations_assets_and_calls_of_a_flow():
    flows = read_source(SOURCE)
    assert set(flows) == {"clean", "quiet"}
    clean = flows["clean"]
    assert (clean.inputs, clean.outputs) == (("raw",), ("clean",))
    assert clean.batch == "day"
    assert clean.asset_inputs == ("s3://lake/raw.parquet",)
    assert clean.asset_outputs == ("s3://lake/clean.parquet",)
    assert clean.parameters == ("batch", "fast")
    report, audit = clean.calls
    assert (report.name, report.waits, report.parameters, report.unknown) == (
        "report/prod",
        False,
        {"batch": "b"},
        ("other",),
    )
    assert (audit.name, audit.waits, audit.parameters, audit.unknown) == ("audit/prod", True, {}, ())


def test_a_flow_that_declares_nothing_says_so():
    quiet = read_source(SOURCE)["quiet"]
    assert quiet.inputs is None
    assert quiet.outputs is None
    assert quiet.calls == ()
