from prefect_intelligent import beacon


def test_a_beacon_is_lit_for_its_time_and_only_under_its_name(tmp_path, monkeypatch):
    beacon.light("pool:a", 60.0, tmp_path)
    assert beacon.is_lit("pool:a", tmp_path)
    assert not beacon.is_lit("pool:b", tmp_path)
    now_s = beacon.time.time()
    monkeypatch.setattr(beacon.time, "time", lambda: now_s + 61)
    assert not beacon.is_lit("pool:a", tmp_path)


def test_a_clock_that_was_set_back_does_not_keep_it_lit(tmp_path, monkeypatch):
    beacon.light("pool:a", 1e9, tmp_path)
    now_s = beacon.time.time()
    assert beacon.is_lit("pool:a", tmp_path)
    monkeypatch.setattr(beacon.time, "time", lambda: now_s - 10)
    assert not beacon.is_lit("pool:a", tmp_path)


def test_what_cannot_be_read_is_not_lit_and_what_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "beacons").write_text("a file where a folder should be")
    beacon.light("pool:a", 60.0, tmp_path)
    assert not beacon.is_lit("pool:a", tmp_path)
    beacon.put_out("pool:a", tmp_path)


def test_it_can_be_put_out(tmp_path):
    beacon.light("pool:a", 60.0, tmp_path)
    beacon.put_out("pool:a", tmp_path)
    assert not beacon.is_lit("pool:a", tmp_path)
