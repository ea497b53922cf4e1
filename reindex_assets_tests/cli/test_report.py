"""The report: a page that says what was found and no more, holds nothing foreign, and lets no value of the data become a part of it.

What lives here: the page, its charts and its file, and the same verification on a terminal. What does not: the numbers themselves
(comparison/test_counts.py, comparison/test_differences.py).
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection
from rich.console import Console

from reindex_assets.cli.render.chart import customer_chart
from reindex_assets.cli.render.page import open_report, render_report
from reindex_assets.cli.render.tables import print_verification
from reindex_assets.comparison.verification import DayReport, Depth, Verification, verify
from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.errors import ConfigurationError, ShardUnreachableError
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import PROCESS, Slice
from reindex_assets_tests.support import application
from reindex_assets_tests.support.plain_loader import load_plainly
from reindex_assets_tests.support.session_stack import CUSTOMERS, SOURCE_TABLES, connect_shards, connect_source

FIRST_DAY = date(2026, 2, 26)
PLAN = DataPlan(CUSTOMERS, FIRST_DAY, days=5, scale=0.0006, seed=8)
NOW = datetime(2026, 3, 9, 12, 30, 5, tzinfo=UTC)
#: As a page, a terminal and a template language could misread it.
HOSTILE = "<script>alert('x')</script>\x1b[2J[/red]{{ 7 * 7 }}&amp;</td>"


class Page(HTMLParser):
    """What a browser makes of a page: its elements with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._inside: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}))
        if tag in ("style", "title"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self._inside:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def of(self, tag: str, css_class: str) -> list[dict[str, str]]:
        return [given for name, given in self.elements if name == tag and css_class in given.get("class", "").split()]


@pytest.fixture(scope="module")
def module_fleet(stack: LocalStack) -> Iterator[Fleet]:
    """Data of which some rows differ, with hostile texts in a comment, a title and a quarantined profile."""
    fleet = load_fleet(stack.fleet_path)
    source, shards = connect_source(fleet), connect_shards(fleet)
    try:
        _spoil(source, shards)
        yield fleet
    finally:
        source.close()
        for client in shards:
            client.close()


def _spoil(source: Connection, shards: list[Client]) -> None:
    days = PLAN.all_days
    with source.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(SOURCE_TABLES)}")
        for client in shards:
            for table in ("scorecard", "score"):
                client.command(f"TRUNCATE TABLE {table}")
        make_source(source, PLAN)
        load_plainly(source, shards)
        plant(Drift.EXTRA, shards, "initech", days[0], 2, 1, source, kind=PROCESS)
        plant(Drift.MISSING, shards, "globex", days[1], 2, 1, source, kind=PROCESS)
        [changed] = application.scorecards_of(source, Slice("initech", days[2]))
        cursor.execute(
            "UPDATE historic.scorecard_scores SET comment = %s, not_applicable = not not_applicable"
            " WHERE (customer, profile, scorecard_id, score_id) = (SELECT customer, profile, scorecard_id, min(score_id::text)::uuid"
            " FROM historic.scorecard_scores WHERE (customer, profile, scorecard_id) = (%s, %s, %s::uuid) GROUP BY 1, 2, 3)",
            (HOSTILE, *changed.key),
        )
        cursor.execute("UPDATE director.scorecard_templates SET title = %s WHERE customer = 'initech'", (HOSTILE,))
        [placeless] = application.scorecards_of(source, Slice("acme", days[3]), profile="voice")
        copy = application.copy_as_new(source, placeless)
        application.update(
            source, copy, "process_interaction_at = 'infinity', created_at = timestamptz '2026-02-27 05:00Z'"
        )
        cursor.execute(
            "INSERT INTO director.scorecard_template_revisions SELECT customer, %s, template_id, template_revision_id, template_type"
            " FROM director.scorecard_template_revisions WHERE profile = 'voice' ON CONFLICT DO NOTHING",
            (HOSTILE,),
        )
        cursor.execute(
            "UPDATE director.scorecards SET profile = %s WHERE scorecard_id = %s::uuid", (HOSTILE, copy.scorecard_id)
        )


@pytest.fixture(scope="module")
def found(module_fleet: Fleet) -> dict[Depth, Verification]:
    # acme's profiles are all looked at: the fleet file of the stack lists them.
    customer = module_fleet.clusters["local"].customers["acme"].model_copy(update={"profiles": ()})
    cluster = module_fleet.clusters["local"]
    cluster = cluster.model_copy(update={"customers": {**cluster.customers, "acme": customer}})
    fleet = module_fleet.model_copy(update={"clusters": {"local": cluster}})
    return {
        depth: verify(fleet, [], PLAN.first_day, PLAN.last_day, kind=PROCESS, depth=depth, settle_seconds=0, samples=1)
        for depth in Depth
    }


def page_of(found: Verification) -> Page:
    return Page(render_report(found, NOW))


@pytest.mark.parametrize("depth", Depth)
def test_a_page_needs_nothing_from_elsewhere_and_runs_nothing(found: dict[Depth, Verification], depth: Depth) -> None:
    html = render_report(found[depth], NOW)
    page = Page(html)
    assert {tag for tag, _ in page.elements} & {"script", "iframe", "object", "embed", "img", "form", "base"} == set()
    for tag, given in page.elements:
        assert not [name for name in given if name.startswith("on")], (tag, given)
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert given.get(name, "data:,") == "data:,", (tag, given)
    assert not re.search(r"@import|url\(", html)


def test_hostile_texts_of_the_data_are_text_on_the_page(found: dict[Depth, Verification]) -> None:
    page = page_of(found[Depth.ROWS])
    # Quoted as a value, and as they are as a title and as a profile.
    assert " ".join(repr(HOSTILE).split()) in page.text
    assert " ".join(HOSTILE.split()) in page.text
    assert len([row for day in found[Depth.ROWS].days for row in day.quarantined if row.profile == HOSTILE]) == 1
    assert "{{ 7 * 7 }}" in page.text
    assert page.text.count("<script>") >= 3


def test_hostile_texts_of_the_data_are_text_on_a_terminal(found: dict[Depth, Verification]) -> None:
    terminal = io.StringIO()
    print_verification(Console(file=terminal, width=400, force_terminal=False), found[Depth.ROWS])
    assert "\x1b" not in terminal.getvalue()
    assert terminal.getvalue().count("\\x1b[2J[/red]") >= 2


def test_a_page_says_the_verdict_the_snapshot_and_both_values_of_a_changed_row(
    found: dict[Depth, Verification],
) -> None:
    verification = found[Depth.ROWS]
    page = page_of(verification)
    assert verification.sentence in page.text
    assert re.match(r"3 of 15 customer-days differ, in \d+ rows\.", verification.sentence)
    assert "2026-03-09 12:30:05 UTC" in page.text
    read_at = datetime.fromtimestamp(verification.snapshots[0] // 1_000_000, UTC)
    assert f"{read_at:%Y-%m-%d %H:%M:%S} UTC" in page.text
    [changed] = [sample for day in verification.days for sample in day.samples if sample.difference == "changed"]
    assert {value.column for value in changed.columns} == {"comment", "not_applicable"}
    for value in changed.columns:
        assert f"{value.column} " in page.text
        assert " ".join(value.postgres.split()) in page.text
        assert " ".join(value.clickhouse.split()) in page.text


def test_shown_rows_are_capped_and_the_page_says_so(found: dict[Depth, Verification]) -> None:
    verification = found[Depth.ROWS]
    kinds = [
        len(day.parity.differences.rows) for day in verification.different if day.parity and day.parity.differences
    ]
    total = sum(day.differing_rows for day in verification.days)
    assert sum(len(day.samples) for day in verification.days) == sum(kinds) < total
    assert f"{total:,} rows differ; {sum(kinds)} of them are shown: at most 1 of each" in page_of(verification).text
    # At the default depth the rows are counted and not shown.
    fingerprint = page_of(found[Depth.FINGERPRINT])
    assert f"{total:,} rows differ" in fingerprint.text
    assert "of them are shown" not in fingerprint.text
    assert "--depth rows" in fingerprint.text


def test_a_page_of_counts_claims_nothing_about_values(found: dict[Depth, Verification]) -> None:
    verification = found[Depth.COUNTS]
    text = page_of(verification).text
    # The changed row does not show.
    assert verification.sentence == "Counts differ on 2 of 15 customer-days; values were not compared."
    assert verification.sentence in text
    assert "Not compared Values." in text
    assert not re.search(r"\bequal\b", text)


@pytest.mark.parametrize("depth", Depth)
def test_each_day_has_a_column_with_its_numbers_and_a_mark_when_it_differs(
    found: dict[Depth, Verification], depth: Depth
) -> None:
    verification = found[depth]
    page = page_of(verification)
    for day in verification.days:
        title = f"{day.slice.customer} {day.slice.day} " + " ".join(
            f"{plural}: Postgres {day.rows[name][0]:,}, ClickHouse {day.rows[name][1]:,}"
            for name, plural in (("scorecard", "scorecards"), ("score", "scores"))
        )
        assert page.text.count(title) == 1
    assert len(page.of("g", "differs")) == len(verification.different) > 0
    assert len(page.of("text", "mark")) == len(verification.different)
    assert len(page.of("rect", "postgres")) == 2 * len(verification.days)


def a_day(customer: str, day: date, scorecards: tuple[int, int], scores: tuple[int, int]) -> DayReport:
    rows = {"scorecard": scorecards, "score": scores}
    same = all(postgres == clickhouse for postgres, clickhouse in rows.values())
    return DayReport(
        cluster="local",
        slice=Slice(customer, day),
        rows=rows,
        difference=None if same else "+1 scores",
        remark="",
        counts={},
        quarantined=(),
    )


@pytest.mark.parametrize("days", [1, 14, 60, 366])
def test_a_chart_of_any_length_shows_every_day_in_proportion_and_within_its_frame(days: int) -> None:
    given = [
        a_day(
            "acme", FIRST_DAY + timedelta(days=number), (number * 37 % 50, number * 11 % 60), (number * 977 % 4_000, 1)
        )
        for number in range(days)
    ]
    chart = customer_chart(given, frozenset({FIRST_DAY}))
    assert len(chart.days) == days
    assert [day.gap for day in chart.days] == [True] + [False] * (days - 1)
    right = chart.left
    for day in chart.days:
        # The next column begins where the one before ends.
        assert abs(day.x - right) < 0.1
        right = day.x + day.width
        for bar in day.bars:
            assert day.x <= bar.x
            assert bar.x + bar.width <= right + 0.1
    assert right <= chart.width + 0.1
    for number, (panel, name) in enumerate(zip(chart.panels, ("scorecard", "score"), strict=True)):
        highest = max(int(tick.text.replace(",", "")) for tick in panel.ticks)
        assert highest >= max(max(day.rows[name]) for day in given)
        for day, verdict in zip(chart.days, given, strict=True):
            bars = [bar for bar in day.bars if panel.top <= bar.y <= panel.bottom]
            assert [bar.side for bar in bars] == [
                side for side, rows in zip(("postgres", "clickhouse"), verdict.rows[name], strict=True) if rows
            ]
            for bar in bars:
                rows = verdict.rows[name][bar.side == "clickhouse"]
                expected = (panel.bottom - panel.top) * rows / highest
                assert abs(bar.height - max(1.0, expected)) < 0.01, (number, verdict)
                assert abs(bar.y + bar.height - panel.bottom) < 0.02
    # The dates do not run into each other: some 35 units wide each.
    places = [mark.at for mark in chart.dates]
    assert all(later - earlier > 40 for earlier, later in pairwise(places))


def test_a_report_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("the old one", encoding="utf-8")
    with pytest.raises(ShardUnreachableError), open_report(path):
        raise ShardUnreachableError("shard 1 cannot be reached")
    assert path.read_text(encoding="utf-8") == "the old one"
    with open_report(path) as save:
        assert save is not None
        save("the new \N{SNOWMAN}")
    assert path.read_text(encoding="utf-8") == "the new \N{SNOWMAN}"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_place_where_no_file_can_be_is_refused_at_once_and_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "absent" / "report.html", tmp_path / "file" / "report.html", tmp_path):
        with pytest.raises(ConfigurationError, match=re.escape(str(path))), open_report(path):
            pytest.fail("there is nothing to write to")
