import fcntl
import json
import os
import stat

import pytest

from prefect_intelligent.errors import InvalidInputError, StoreError
from prefect_intelligent.local.record_versions import UPCASTERS, left_out
from prefect_intelligent.local.spool import Spool, default_folder
from prefect_intelligent.settings import Settings


def drain(spool: Spool):
    assert spool.seal()
    entries = []
    for segment in spool.segments():
        found, torn = spool.read(segment)
        entries.extend(found)
        assert torn == 0
    return entries


def test_what_was_appended_comes_back_in_order_with_kind_time_and_id(tmp_path):
    spool = Spool(tmp_path / "spool")
    first = spool.append("flow_run", {"wait_s": 1.5, "name": "ärger\n"}, at_s=10.0)
    second = spool.append("decision", {"n": 2}, event_id="run-7:COMPLETED")
    entries = drain(spool)
    assert [(e.id, e.kind) for e in entries] == [(first, "flow_run"), ("run-7:COMPLETED", "decision")]
    assert entries[0].at_s == 10.0
    assert entries[0].record == {"wait_s": 1.5, "name": "ärger\n"}
    assert second == "run-7:COMPLETED"


def test_segments_close_when_full_and_keep_their_order(tmp_path):
    spool = Spool(tmp_path, segment_bytes=300)
    for i in range(20):
        spool.append("n", {"i": i})
    assert len(spool.segments()) > 3
    assert [e.record["i"] for e in drain(spool)] == list(range(20))


def test_a_torn_line_is_skipped_and_does_not_swallow_the_next_record(tmp_path):
    spool = Spool(tmp_path)
    spool.append("n", {"i": 0})
    with (tmp_path / "active").open("a") as active:
        active.write('\n{"id": "x", "at_s": 1, "ki')  # a writer killed in the middle
    spool.append("n", {"i": 1})
    assert spool.seal()
    (segment,) = spool.segments()
    entries, torn = spool.read(segment)
    assert [e.record["i"] for e in entries] == [0, 1]
    assert torn == 1


def test_beyond_its_space_the_oldest_segments_are_dropped_and_counted(tmp_path):
    spool = Spool(tmp_path, segment_bytes=500, max_bytes=2_000)
    for i in range(200):
        spool.append("n", {"i": i})
    kept = [e.record["i"] for e in drain(spool)]
    lost = spool.losses()
    assert lost.records > 0
    assert lost.records + len(kept) == 200
    assert kept == list(range(200 - len(kept), 200))
    assert lost.last_s is not None
    assert spool.size_bytes() <= 2_000 + 2 * 500


def test_a_segment_that_a_reader_has_taken_is_never_dropped(tmp_path):
    spool = Spool(tmp_path, segment_bytes=200, max_bytes=400)
    spool.append("n", {"i": 0, "pad": "x" * 200})
    taken = spool.take(spool.segments()[0])
    for i in range(50):
        spool.append("n", {"i": i})
    assert taken is not None
    assert taken.exists()
    assert spool.read(taken)[0][0].record["i"] == 0
    spool.remove(taken)
    assert spool.take(taken) is None


def test_a_writer_does_not_wait_for_a_process_that_holds_the_lock(tmp_path):
    spool = Spool(tmp_path)
    spool.append("n", {"i": 0})
    fd = os.open(tmp_path / "active", os.O_WRONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        spool.append("n", {"i": 1})
        assert len(spool.segments()) == 1
    finally:
        os.close(fd)
    assert sorted(e.record["i"] for e in drain(spool)) == [0, 1]


@pytest.mark.parametrize(
    ("record", "says"),
    [({"x": object()}, "plain JSON"), ({"x": float("nan")}, "plain JSON"), ({"x": "y" * 300_000}, "at most")],
)
def test_a_record_that_cannot_be_kept_is_refused_by_name(tmp_path, record, says):
    with pytest.raises(InvalidInputError, match=says):
        Spool(tmp_path).append("flow_run", record)
    assert Spool(tmp_path).segments() == ()


def test_a_folder_that_cannot_be_written_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        Spool(tmp_path / "file").append("n", {})


def test_records_are_readable_by_their_owner_only(tmp_path):
    Spool(tmp_path / "s").append("n", {})
    assert stat.S_IMODE((tmp_path / "s" / "active").stat().st_mode) == 0o600


def test_the_folder_is_the_one_of_the_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PREFECT_INTELLIGENT_DATA_DIR", raising=False)
    assert default_folder() == tmp_path / "home" / "prefect-intelligent" / "spool" == Settings().spool_dir
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "own"))
    assert default_folder() == tmp_path / "own" / "spool" == Settings().spool_dir


def test_the_format_is_one_json_object_a_line(tmp_path):
    Spool(tmp_path).append("quality", {"a": 1}, event_id="e", at_s=2.0)
    text = (tmp_path / "active").read_text().strip()
    assert json.loads(text) == {"id": "e", "at_s": 2.0, "kind": "quality", "version": 1, "record": {"a": 1}}


def test_a_line_of_another_version_comes_in_the_present_form_of_its_kind(tmp_path, monkeypatch):
    monkeypatch.setitem(UPCASTERS, "size", (lambda record: {"bytes": record["kb"] * 1000},))
    lines = [
        {"id": "none", "at_s": 1.0, "kind": "size", "record": {"kb": 1}, "new": "field"},
        {"id": "newer", "at_s": 1.0, "kind": "size", "version": 7, "record": {"bytes": 3, "bits": 24}},
        {"id": "wrong", "at_s": 1.0, "kind": "size", "version": 1, "record": {}},
        {"id": "late", "at_s": 1e300, "kind": "size", "version": 2, "record": {}},
    ]
    segment = tmp_path / "1-1-1.jsonl"
    segment.write_text("\n".join(map(json.dumps, lines)))
    spool = Spool(tmp_path)
    spool.append("size", {"bytes": 5}, event_id="present")
    entries, unreadable = spool.read(segment)
    assert [(e.id, dict(e.record), e.version) for e in entries] == [
        ("none", {"bytes": 1000}, 2),
        ("newer", {"bytes": 3, "bits": 24}, 7),
    ]
    assert unreadable == 2
    spool.seal()
    assert spool.read(spool.segments()[1])[0][0].version == 2


def test_what_cannot_be_read_is_named_once_and_counted(tmp_path, caplog):
    segment = tmp_path / "1-1-2.jsonl"
    segment.write_text('{"id": "x", "at_s": "never", "kind": "k", "record": {}}\n')
    before = left_out().get("spool", 0)
    for _ in range(3):
        assert Spool(tmp_path).read(segment) == ((), 1)
    assert left_out()["spool"] == before + 1
    assert caplog.text.count("1-1-2.jsonl") == 1
