"""Schedules start when Prefect's own classes say, changes of the clocks included, and old rules cost nothing."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from dateutil.rrule import rrulestr
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st
from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

from prefect_intelligent.pipelines.adapters.prefect_discovery import read_schedule

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
ZONES = ("UTC", BERLIN, NEW_YORK, "Asia/Kathmandu", "Australia/Lord_Howe", "America/Sao_Paulo", "Africa/Casablanca")


def cron(line, zone=None, day_or=True):
    return {"cron": line, "timezone": zone, "day_or": day_or}


def interval(seconds, anchor, zone=None):
    return {"interval": seconds, "anchor_date": anchor, "timezone": zone}


def rule(text, zone="UTC"):
    return {"rrule": text, "timezone": zone}


def prefect(schedule, start, end):
    """What Prefect's classes answer, without the end."""
    kind = CronSchedule if "cron" in schedule else IntervalSchedule if "interval" in schedule else RRuleSchedule
    dates = kind(**schedule).get_dates(start=start, end=end)
    with pytest.raises(StopIteration) as done:  # nothing is awaited in it
        dates.send(None)
    return sorted({at.timestamp() for at in done.value.value if at < end})


def ours(schedule, start, end):
    read = read_schedule({"schedule": schedule, "active": True})
    return list(read.starts_s(start.timestamp(), end.timestamp()))


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "start", "end"),
    [
        (cron("0 9 8-14 * 2", "UTC", day_or=False), "2026-12-01", "2027-02-01"),
        (cron("0 9 8-14 * 2", "UTC"), "2026-12-01", "2027-02-01"),
        (cron("30 * * * *", BERLIN), "2026-10-25", "2026-10-26"),
        (cron("30 2 * * *", BERLIN), "2027-03-27", "2027-03-31"),
        (cron("30 2 * * *", BERLIN), "2026-10-24", "2026-10-27"),
        (interval(86_400, "2026-10-20T07:00:00+02:00", BERLIN), "2026-10-23", "2026-10-28"),
        (interval(86_400, "2026-10-20T07:00:00+02:00", BERLIN), "2026-10-27", "2026-10-30"),
        (interval(90_000, "2026-10-20T02:30:00+02:00", BERLIN), "2026-10-23", "2026-10-28"),
        (interval(3_600, "0001-01-01T00:00:00+00:00"), "2026-10-23", "2026-10-24"),
        (rule("FREQ=MINUTELY;INTERVAL=7", NEW_YORK), "2026-12-01T00:00", "2026-12-01T03:00"),
        (rule("DTSTART:20251201T000000\nFREQ=MINUTELY"), "2026-12-01T00:00", "2026-12-01T00:05"),
        (cron("0 3 L * *"), "2026-12-01", "2027-02-01"),
        (cron("0 3 * * MON#1"), "2026-12-01", "2027-02-01"),
        (cron("0 12 * * * 30"), "2026-12-01", "2026-12-20"),
        (cron("@weekly"), "2026-12-01", "2027-02-01"),
        (rule("FREQ=WEEKLY;BYDAY=MO,WE;BYHOUR=9;BYMINUTE=0;BYSECOND=0", NEW_YORK), "2026-10-20", "2026-11-20"),
        (rule("DTSTART:20260101T093000Z\nRRULE:FREQ=DAILY", NEW_YORK), "2026-12-01", "2027-01-01"),
        (rule("DTSTART:20261101T080000\nRRULE:FREQ=DAILY\nEXDATE:20261205T080000"), "2026-12-01", "2027-01-01"),
        (rule("DTSTART:20261101T080000\nRRULE:FREQ=DAILY\nEXRULE:FREQ=WEEKLY;BYDAY=SU"), "2026-12-01", "2027-01-01"),
        (rule("DTSTART:20261101T080000\nRRULE:FREQ=DAILY\nRDATE:20261205T120000"), "2026-12-01", "2027-01-01"),
        (rule("DTSTART:20261101T080000\nRRULE:FREQ=DAILY;COUNT=35"), "2026-12-01", "2027-01-01"),
        (rule("DTSTART:20261130T080000\nFREQ=MINUTELY;COUNT=1000"), "2026-12-01T00:00", "2026-12-02"),
        (cron("0 6 * * *", "Asia/Kathmandu"), "2026-12-01", "2026-12-04"),
        (cron("15 6 * * *"), "2026-12-01", "2026-12-04"),
    ],
    ids=str,
)  # fmt: skip
def test_a_schedule_starts_when_prefect_starts_it(schedule, start, end):
    expected = prefect(schedule, at(start), at(end))
    assert expected
    assert ours(schedule, at(start), at(end)) == expected


FIELD = {0: 59, 1: 23, 2: 28, 3: 12, 4: 6}


@st.composite
def cron_lines(draw):
    def field(place):
        low, high = (1 if place in (2, 3) else 0), FIELD[place]
        numbers = st.integers(low, high)
        some = st.lists(numbers, min_size=1, max_size=3, unique=True).map(
            lambda found: ",".join(map(str, sorted(found)))
        )
        return draw(st.one_of(st.just("*"), st.just("*"), st.integers(2, 20).map("*/{}".format), some))

    return " ".join(field(place) for place in FIELD)


@st.composite
def rules(draw):
    freq = draw(st.sampled_from(["MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"]))
    parts = [f"FREQ={freq}", f"INTERVAL={draw(st.integers(20, 90) if freq == 'MINUTELY' else st.integers(1, 50))}"]
    if draw(st.booleans()):
        parts.append(f"BYHOUR={draw(st.integers(0, 23))}")
    if draw(st.booleans()):
        parts.append(
            "BYDAY=" + ",".join(draw(st.lists(st.sampled_from(["MO", "TU", "SA", "SU"]), min_size=1, unique=True)))
        )
    if freq in ("MINUTELY", "HOURLY") and draw(st.booleans()):
        parts.append(f"BYMINUTE={draw(st.integers(0, 59))}")
    ends = draw(st.sampled_from(["", "COUNT", "UNTIL"]))
    if ends:
        parts.append(f"COUNT={draw(st.integers(1, 2000))}" if ends == "COUNT" else "UNTIL=20270401T120000")
    begin = draw(st.datetimes(datetime(2026, 9, 20), datetime(2027, 4, 1))).strftime("%Y%m%dT%H%M%S")
    text = f"DTSTART:{begin}\nRRULE:" + ";".join(parts)
    try:
        rrulestr(text)
    except ValueError:  # no minute of the hour is ever reached: Prefect refuses it too
        reject()
    return text


@st.composite
def schedules(draw):
    zone = draw(st.sampled_from(ZONES))
    kind = draw(st.sampled_from(["cron", "interval", "rule"]))
    if kind == "cron":
        return cron(draw(cron_lines()), draw(st.sampled_from([zone, None])), draw(st.booleans()))
    if kind == "rule":
        return rule(draw(rules()), zone)
    anchor = draw(st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)))
    seconds = draw(st.one_of(st.integers(60, 7200), st.integers(1, 400).map(lambda hours: 3600 * hours)))
    return interval(seconds, anchor.replace(microsecond=0).isoformat() + draw(st.sampled_from(["Z", "+02:00"])), zone)


CHANGES = ("2026-10-24", "2026-10-31", "2027-03-13", "2027-03-27", "2027-04-03", "2026-12-01", "2026-09-26")


@settings(max_examples=60)
@given(schedules(), st.sampled_from(CHANGES).map(at), st.integers(0, 48), st.integers(1, 72))
@example(rule("DTSTART:20260920T000000\nRRULE:FREQ=MINUTELY;INTERVAL=37;BYHOUR=2", BERLIN), at("2026-10-24"), 0, 60)
def test_any_schedule_starts_when_prefect_starts_it(schedule, day, hours, span):
    start = day + timedelta(hours=hours)
    end = start + timedelta(hours=span)
    expected = prefect(schedule, start, end)
    if len(expected) < 900:  # Prefect itself stops at a thousand
        assert ours(schedule, start, end) == expected


def test_ten_minutely_rules_a_year_old_are_read_at_once():
    start, end = at("2026-12-01T00:00"), at("2026-12-03T00:00")
    texts = [f"DTSTART:202512{day:02}T000000\nFREQ=MINUTELY;INTERVAL={1 + day % 3}" for day in range(1, 11)]
    before = time.process_time()
    found = [ours(rule(text, NEW_YORK), start, end) for text in texts]
    spent_s = time.process_time() - before
    assert all(len(starts) >= 960 for starts in found)
    assert spent_s < 1.0
