"""Reading recorded workloads: a small file of each format, and files that are wrong."""

import gzip
import json
import math
from pathlib import Path

import pandas as pd
import pytest

from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from simulations.traces import COLUMNS, read_trace
from simulations.traces.__main__ import main

SHARED = Path(__file__).parents[4] / "shared" / "traces"


def written(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_the_standard_workload_format(tmp_path):
    path = written(
        tmp_path,
        "log.swf",
        "; Computer: a machine\n"
        "1 100 5 60 4 -1 -1 4 90 -1 1 7 1 3 2 1 -1 -1\n"
        "2 130 -1 10 -1 -1 -1 2 -1 -1 0 8 1 3 2 1 -1 -1\n"
        "3 140 5 60\n"
        "4 150 5 sixty 4 -1 -1 4 90 -1 1 7 1 3 2 1 -1 -1\n"
        "5 160 5 -3 4 -1 -1 4 90 -1 1 7 1 3 2 1 -1 -1\n",
    )
    trace = read_trace(path)
    assert trace.format == "swf"
    assert list(trace.runs["submit_s"]) == [0, 30]
    assert list(trace.runs["duration_s"]) == [60, 10]
    assert list(trace.runs["slots"]) == [4, 2]
    assert list(trace.runs["failed"]) == [False, True]
    assert trace.runs["estimate_s"][0] == 90
    assert math.isnan(trace.runs["estimate_s"][1])
    assert [str(p) for p in trace.problems] == [
        f"{path}:4: has 4 fields instead of 18",
        f"{path}:5: a field is of the wrong kind (could not convert string to float: 'sixty')",
        f"{path}:6: the duration is negative (-3 s)",
    ]


def test_a_gzipped_csv_with_a_known_header(tmp_path):
    path = tmp_path / "jobs.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("id,submit_s,run_s,cpu_count\n7,50,3,16\n8,40,4,16\n9,40,oops,16\n10,60\n")
    trace = read_trace(path)
    assert list(trace.runs["id"]) == ["8", "7"]
    assert list(trace.runs["submit_s"]) == [0, 10]
    assert [p.line for p in trace.problems] == [4, 5]
    assert list(trace.runs.columns) == list(COLUMNS)


def test_the_workflow_trace_archive(tmp_path):
    path = tmp_path / "tasks.parquet"
    pd.DataFrame(
        {
            "id": [1, 2],
            "workflow_id": [9, 9],
            "ts_submit": [1000, 1000],
            "runtime": [250, 500],
            "parents": [[], [1]],
        }
    ).to_parquet(path)
    runs = read_trace(path).runs
    assert list(runs["duration_s"]) == [0.25, 0.5]
    assert list(runs["parents"]) == [(), ("1",)]


def test_wfformat_of_both_schemas(tmp_path):
    old = {
        "name": "w",
        "workflow": {"tasks": [{"name": "a", "runtime": 3}, {"name": "b", "runtime": 4, "parents": ["a"]}]},
    }
    new = {
        "name": "w",
        "workflow": {
            "specification": {
                "tasks": [{"id": "1", "name": "a"}, {"id": "2", "name": "b", "parents": ["1"]}, {"id": "3"}]
            },
            "execution": {"tasks": [{"id": "1", "runtimeInSeconds": 3}, {"id": "2", "runtimeInSeconds": 4}]},
        },
    }
    for document, skipped in ((old, 0), (new, 1)):
        trace = read_trace(written(tmp_path, "w.json", json.dumps(document)))
        assert trace.format == "wfformat"
        assert list(trace.runs["duration_s"]) == [3, 4]
        assert len(trace.runs["parents"][1]) == 1
        assert len(trace.problems) == skipped


def test_dags_one_a_line(tmp_path):
    good = json.dumps({"name": "f/x", "runtimes": [1, 2], "names": ["a", "b"], "parents": [[], [0]]})
    trace = read_trace(written(tmp_path, "dags.jsonl", f'{good}\n{{"name": 1}}\nnot json\n'))
    assert list(trace.runs["deployment"]) == ["f/a", "f/b"]
    assert trace.runs["parents"][1] == ("1/0",)
    assert [p.line for p in trace.problems] == [2, 3]


def test_flow_runs_as_prefect_returns_them(tmp_path):
    runs = [
        {
            "id": "r1",
            "flow_id": "f",
            "deployment_id": "d",
            "work_queue_name": "marts",
            "expected_start_time": "2026-01-01T00:00:00Z",
            "start_time": "2026-01-01T00:00:30Z",
            "end_time": "2026-01-01T00:02:30Z",
            "state_type": "CRASHED",
        },
        {"id": "r2", "flow_id": "f", "expected_start_time": "2026-01-01T00:00:00Z", "start_time": None},
    ]
    trace = read_trace(written(tmp_path, "runs.json", json.dumps(runs)))
    assert trace.format == "prefect"
    row = trace.runs.iloc[0]
    assert (row["queue"], row["wait_s"], row["duration_s"], row["failed"]) == ("marts", 30, 120, True)
    assert "r2" in trace.problems[0].reason


def test_task_instances_of_airflow(tmp_path):
    path = written(
        tmp_path,
        "task_instance.csv",
        "dag_id,task_id,run_id,start_date,end_date,state,queued_dttm,pool,pool_slots,try_number\n"
        "d,t,r,2026-01-01T00:01:00+00:00,2026-01-01T00:02:00+00:00,failed,2026-01-01T00:00:50+00:00,etl,2,1\n"
        "d,u,r,,,running,2026-01-01T00:00:50+00:00,etl,1,1\n",
    )
    trace = read_trace(path)
    assert trace.format == "airflow"
    row = trace.runs.iloc[0]
    assert (row["queue"], row["slots"], row["wait_s"], row["duration_s"], row["failed"]) == ("etl", 2, 10, 60, True)
    assert [p.line for p in trace.problems] == [3]


TASK_2 = {  # as Airflow 2.10 answers
    "dag_id": "d", "dag_run_id": "scheduled__2026-01-01", "task_id": "t", "execution_date": "2026-01-01T00:00:00+00:00",
    "start_date": "2026-01-01T00:01:00+00:00", "end_date": "2026-01-01T00:02:00+00:00", "duration": 60.0,
    "state": "failed", "try_number": 1, "map_index": -1, "max_tries": 0, "pool": "etl", "pool_slots": 2,
    "queue": "default", "queued_when": "2026-01-01T00:00:50+00:00", "trigger": None, "rendered_fields": {},
}  # fmt: skip
TASK_3 = {  # as Airflow 3.0 answers
    "id": "0195", "task_id": "t", "dag_id": "d", "dag_run_id": "scheduled__2026-01-01", "map_index": -1,
    "logical_date": "2026-01-01T00:00:00Z", "run_after": "2026-01-01T00:00:00Z", "start_date": "2026-01-01T00:01:00Z",
    "end_date": "2026-01-01T00:02:00Z", "duration": 60.0, "state": "failed", "try_number": 1, "max_tries": 0,
    "pool": "etl", "pool_slots": 2, "queue": "default", "queued_when": "2026-01-01T00:00:50Z",
    "scheduled_when": "2026-01-01T00:00:49Z", "dag_version": {"version_number": 1}, "trigger": None,
}  # fmt: skip


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("task", [TASK_2, TASK_3], ids=["2.x", "3.x"])
def test_an_answer_of_airflows_rest_api(tmp_path, task, indent):
    answer = {"task_instances": [task, task | {"task_id": "u", "end_date": None}], "total_entries": 2}
    trace = read_trace(written(tmp_path, "tasks.json", json.dumps(answer, indent=indent)))
    assert trace.format == "airflow"
    (row,) = trace.runs.to_dict("records")
    assert (row["queue"], row["slots"], row["wait_s"], row["duration_s"], row["failed"]) == ("etl", 2, 10, 60, True)
    assert row["id"].startswith("d/scheduled__2026-01-01/t/")
    assert [(p.line, p.reason) for p in trace.problems] == [(2, "task d.u has not ended or lacks a time")]


def test_pages_of_airflows_rest_api_one_a_line_and_one_that_is_not_all(tmp_path):
    pages = [{"task_instances": [TASK_2 | {"task_id": name}], "total_entries": 3} for name in "ab"]
    trace = read_trace(written(tmp_path, "tasks.jsonl", "\n".join(map(json.dumps, pages))))
    assert list(trace.runs["deployment"]) == ["d.a", "d.b"]
    (problem,) = trace.problems
    assert "holds 2 of 3 task instances" in problem.reason


def test_a_kubeflow_run_beside_its_pipeline(tmp_path):
    written(
        tmp_path,
        "train.yaml",
        "components: {}\ndeploymentSpec: {}\nroot:\n  dag:\n    tasks:\n"
        "      comp-load: {taskInfo: {name: load}}\n"
        "      fit:\n        taskInfo: {name: fit}\n        dependentTasks: [comp-load]\n"
        "      score:\n        taskInfo: {name: score}\n        inputs:\n          artifacts:\n"
        "            model: {taskOutputArtifact: {producerTask: fit}}\n",
    )
    times = {
        "create_time": "2026-01-01T00:00:00Z",
        "start_time": "2026-01-01T00:00:05Z",
        "end_time": "2026-01-01T00:01:05Z",
    }
    tasks = [{"display_name": name, "state": "SUCCEEDED", **times} for name in ("load", "load-driver", "fit", "score")]
    path = written(tmp_path, "train.json", json.dumps({"run_id": "r", "run_details": {"task_details": tasks}}))
    runs = read_trace(path).runs.set_index("id")
    assert sorted(runs.index) == ["fit", "load", "score"]
    assert runs.loc["score", "parents"] == ("fit",)
    assert runs.loc["fit", "parents"] == ("load",)
    assert runs.loc["fit", "wait_s"] == 5
    assert runs.loc["fit", "duration_s"] == 60


def test_a_kubeflow_pipeline_without_its_run_says_what_is_missing(tmp_path):
    path = written(tmp_path, "train.yaml", "components: {}\ndeploymentSpec: {}\nroot: {}\n")
    with pytest.raises(InvalidInputError, match=r"train\.json is missing"):
        read_trace(path)


def test_a_circle_of_dependencies_is_printed(tmp_path):
    dag = json.dumps({"name": "f/x", "runtimes": [1, 1, 1], "names": list("abc"), "parents": [[2], [0], [1]]})
    with pytest.raises(InvalidInputError, match="1/2 -> 1/0 -> 1/1 -> 1/2"):
        read_trace(written(tmp_path, "dags.jsonl", dag))


def test_a_link_to_nowhere_and_a_repeated_id_are_reported(tmp_path):
    path = written(tmp_path, "w.csv", "id,workflow_id,ts_submit,runtime,parents\n1,0,0,5,8\n1,0,0,6,\n")
    trace = read_trace(path)
    assert len(trace) == 1
    assert trace.runs["parents"][0] == ()
    assert {p.reason.split(",")[0] for p in trace.problems} == {"the id '1' was used before", "run '1' waits for '8'"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "a,b\n1,2\n", "could not be told"),
        ("x.json", "{ not json", "could not be told"),
        ("x.json", '{"workflow": oops}', "is not JSON"),
        ("x.swf", "; only a comment\n", "no run could be read"),
        ("x.txt", "", "could not be told"),
    ],
)
def test_a_file_of_another_format_is_bad_input(tmp_path, name, text, message):
    with pytest.raises(InvalidInputError, match=message):
        read_trace(written(tmp_path, name, text))


def test_a_file_that_is_not_text_is_bad_input(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(b"\x00\xff not gzip")
    with pytest.raises(InvalidInputError, match="not a text file"):
        read_trace(path)


def test_one_bad_byte_costs_its_line_and_not_the_file(tmp_path):
    path = tmp_path / "jobs.csv"
    path.write_bytes(b"id,submit_s,run_s,cpu_count\n7,50,3,16\n\xe9,40,4,16\n9,60,5,16\n")
    trace = read_trace(path)
    assert list(trace.runs["id"]) == ["7", "9"]
    assert [str(p) for p in trace.problems] == [
        f"{path}:3: has another number of fields than the header, or is not UTF-8"
    ]


def test_a_run_without_a_time_is_reported_where_the_others_have_one(tmp_path):
    trace = read_trace(written(tmp_path, "jobs.csv", "id,submit_s,run_s,cpu_count\n7,50,3,16\n8,nan,4,16\n"))
    assert list(trace.runs["id"]) == ["7"]
    assert [(p.line, p.reason) for p in trace.problems] == [(3, "has no time of submission")]


def test_a_file_that_is_cut_off_is_bad_input(tmp_path):
    path = tmp_path / "jobs.csv.gz"
    rows = "".join(f"{n},{n * 7919 % 100_003},{n * 104_729 % 997},16\n" for n in range(20_000))
    path.write_bytes(gzip.compress(f"id,submit_s,run_s,cpu_count\n{rows}".encode())[:-5000])
    with pytest.raises(InvalidInputError, match="damaged or cut off"):
        read_trace(path)
    with pytest.raises(InvalidInputError, match="no run could be read"):
        read_trace(written(tmp_path, "empty.csv", ""), "airflow")


def test_a_missing_file_and_an_unknown_format_are_bad_input(tmp_path):
    with pytest.raises(InvalidInputError, match="no such file"):
        read_trace(tmp_path / "gone.csv")
    with pytest.raises(UnknownNameError, match="did you mean 'swf'"):
        read_trace(tmp_path / "gone.csv", format="swff")


@pytest.mark.skipif(
    not SHARED.is_dir(), reason="the development traces (../shared/traces) are not beside the repository"
)
@pytest.mark.parametrize(
    ("name", "runs", "problems"),
    [
        ("kth_sp2_1996.csv.gz", 28_489, 0),
        ("wagap_2013.csv.gz", 17_898, 2),  # two negative runtimes
        ("alibaba2023_openb_pods.csv.gz", 7_255, 897),  # pods that were never placed
        ("wta_shell_chronos.csv.gz", 10_208, 0),
        ("philly_2017.csv.gz", 82_247, 0),
        ("surf_month.csv.gz", 68_648, 0),
        ("surf_halfyear.csv.gz", 194_917, 0),
        ("wfinstances_train_dags.jsonl.gz", 52_041, 0),
    ],
)
def test_a_real_trace_is_read_whole(name, runs, problems):
    trace = read_trace(SHARED / name)
    assert (len(trace), len(trace.problems)) == (runs, problems)


AIRFLOW = [
    {
        "dag_id": "d", "task_id": task, "run_id": "r", "start_date": "2026-01-01T00:01:00+00:00",
        "end_date": "2026-01-01T00:02:00+00:00", "state": "success", "queued_dttm": "2026-01-01T00:00:50+00:00",
        "pool": "etl", "pool_slots": 2, "try_number": 1,
    }
    for task in "ab"
]  # fmt: skip
PREFECT = [
    {
        "id": name, "flow_id": "f", "deployment_id": "d", "work_queue_name": "q", "state_type": "COMPLETED",
        "expected_start_time": "2026-01-01T00:00:00Z", "start_time": "2026-01-01T00:00:30Z",
        "end_time": "2026-01-01T00:02:30Z",
    }
    for name in "ab"
]  # fmt: skip
WFFORMAT = {
    "name": "w",
    "workflow": {
        "specification": {
            "tasks": [{"id": "1", "name": "a", "parents": []}, {"id": "2", "name": "b", "parents": ["1"]}]
        },
        "execution": {"tasks": [{"id": "1", "runtimeInSeconds": 3}, {"id": "2", "runtimeInSeconds": 4}]},
    },
}
KUBEFLOW = {
    "run_id": "r",
    "run_details": {
        "task_details": [
            {
                "display_name": name, "state": "SUCCEEDED", "create_time": "2026-01-01T00:00:00Z",
                "start_time": "2026-01-01T00:00:05Z", "end_time": "2026-01-01T00:01:05Z",
            }
            for name in ("load", "fit")
        ]
    },
}  # fmt: skip
DAGS = {"name": "f/x", "runtimes": [1, 2], "names": ["a", "b"], "parents": [[], [0]]}
TABLES = {
    "swf": [
        line.split()
        for line in (
            "1 100 5 60 4 -1 -1 4 90 -1 1 7 1 3 2 1 -1 -1",
            "2 130 -1 10 -1 -1 -1 2 -1 -1 0 8 1 3 2 1 -1 -1",
        )
    ],
    "csv": [
        line.split(",")
        for line in (
            "job,submit,wait,run,procs,reqtime,status,user,group,exe,queue,partition",
            "1,0,5,60,4,90,1,7,1,-1,-1,-1",
            "2,9,5,60,4,90,0,7,1,-1,-1,-1",
        )
    ],
}
WRONG = (None, "oops", -1, {}, ["z"])


def leaves(document, path=()):
    """Every place in a JSON document."""
    yield path
    inside = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in inside:
        yield from leaves(value, (*path, key))


def spoilt(document, path, value):
    if not path:
        return value
    copy = json.loads(json.dumps(document))
    at = copy
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return copy


@pytest.mark.parametrize(
    ("format", "document"),
    [
        ("airflow", AIRFLOW),
        ("airflow", {"task_instances": AIRFLOW, "total_entries": 2}),
        ("prefect", PREFECT),
        ("wfformat", WFFORMAT),
        ("kubeflow", KUBEFLOW),
        ("dag-lines", DAGS),
    ],
)
def test_whatever_stands_anywhere_in_a_document_is_read_reported_or_refused(tmp_path, format, document):
    pipeline = "components: {}\ndeploymentSpec: {}\nroot: {dag: {tasks: {load: {}, fit: {dependentTasks: [load]}}}}\n"
    written(tmp_path, "x.yaml", pipeline)
    for path in leaves(document):
        for value in WRONG:
            file = written(tmp_path, "x.json", json.dumps(spoilt(document, path, value)))
            try:
                trace = read_trace(file, format)
            except InvalidInputError:
                continue
            assert (trace.runs["duration_s"] >= 0).all(), (path, value)
            assert all(problem.path == file and problem.line >= 0 for problem in trace.problems), (path, value)


@pytest.mark.parametrize("format", TABLES)
def test_whatever_stands_in_a_cell_its_line_is_read_or_reported_and_never_lost(tmp_path, format):
    rows, between = TABLES[format], " " if format == "swf" else ","
    first = 0 if format == "swf" else 1
    for row in range(first, len(rows)):
        for cell in range(len(rows[row])):
            for value in ("oops", "nan", "inf", "-7", ""):
                changed = [list(each) for each in rows]
                changed[row][cell] = value
                file = written(tmp_path, "x.txt", "\n".join(between.join(each) for each in changed) + "\n")
                trace = read_trace(file, format)
                assert len(trace) + len(trace.problems) == len(rows) - first, (row, cell, value)
                assert all(problem.line == row + 1 for problem in trace.problems)


def test_the_command_counts_what_it_left_out(tmp_path, capsys):
    path = written(tmp_path, "jobs.csv", "id,submit_s,run_s,cpu_count\n7,50,3,16\n8,40,4,16\n9,40,oops,16\n")
    assert main([str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["format"], said["runs"], said["lines_left_out"]) == ("csv", 2, 1)
    assert said["problems"][0].startswith(f"{path}:4: a field is of the wrong kind")
    assert main([str(path)]) == 0
    assert f"left out: {path}:4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text", "words", "message"),
    [
        ("x.csv", "a,b\n1,2\n", [], "its format could not be told"),
        ("x.csv", "a,b\n1,2\n", ["--format", "swff"], "did you mean 'swf'"),
        ("x.swf", "; nothing\n", [], "no run could be read"),
        (
            "x.jsonl",
            json.dumps({"name": "f", "runtimes": [1, 1], "names": ["a", "b"], "parents": [[1], [0]]}),
            [],
            "->",
        ),
    ],
)
def test_the_command_refuses_in_one_line_with_exit_code_2(tmp_path, capsys, name, text, words, message):
    assert main([str(written(tmp_path, name, text)), *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
