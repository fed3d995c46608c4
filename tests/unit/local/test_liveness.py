from prefect_intelligent.local import liveness


def test_a_key_is_alive_for_its_time_and_no_other_key_with_it(tmp_path, monkeypatch):
    liveness.mark_alive("pool:a", 60.0, tmp_path)
    assert liveness.is_alive("pool:a", tmp_path)
    assert not liveness.is_alive("pool:b", tmp_path)
    now_s = liveness.time.time()
    monkeypatch.setattr(liveness.time, "time", lambda: now_s + 61)
    assert not liveness.is_alive("pool:a", tmp_path)


def test_a_clock_that_was_set_back_does_not_keep_it_alive(tmp_path, monkeypatch):
    liveness.mark_alive("pool:a", 1e9, tmp_path)
    now_s = liveness.time.time()
    assert liveness.is_alive("pool:a", tmp_path)
    monkeypatch.setattr(liveness.time, "time", lambda: now_s - 10)
    assert not liveness.is_alive("pool:a", tmp_path)


def test_what_cannot_be_read_is_not_alive_and_what_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "beacons").write_text("a file where a folder should be")
    liveness.mark_alive("pool:a", 60.0, tmp_path)
    assert not liveness.is_alive("pool:a", tmp_path)
    liveness.clear("pool:a", tmp_path)


def test_it_can_be_cleared(tmp_path):
    liveness.mark_alive("pool:a", 60.0, tmp_path)
    liveness.clear("pool:a", tmp_path)
    assert not liveness.is_alive("pool:a", tmp_path)


def test_keys_hold_no_password_and_are_those_of_the_server():
    plain, secret = "https://prefect.example:4200/api", "https://ada:s3cret@prefect.example:4200/api/"
    for key in (liveness.relay_key, lambda url: liveness.steering_key(url, "etl")):
        assert key(secret) == key(plain)
        assert "s3cret" not in key(secret)
        assert key(plain) != key("https://prefect.example:4201/api")
