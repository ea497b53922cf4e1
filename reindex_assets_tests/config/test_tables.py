"""The tables that a fleet file declares: what follows from them, and what is refused with its line and the reason.

What lives here: texts of fleet files. What does not: tables on engines (end_to_end/test_declared_tables.py).
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import yaml

from reindex_assets.column_types import TIME
from reindex_assets.config.default_tables import SCORECARD, TABLES
from reindex_assets.config.effective import effective, fleet_schema
from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.config.sql_text import checked_sql
from reindex_assets.errors import ConfigurationError
from reindex_assets.model import KINDS, PROCESS
from reindex_assets.postgres.extract import select_rows
from reindex_assets.selection.groups import slice_group
from reindex_assets.selection.source_sql import QUARANTINED, _values_fit, source_sql
from reindex_assets_tests.support.fleet_files import EXAMPLE, write

DECLARED = """\
defaults:
  tables:
    scorecard:
      name: qa_cards
      where: NOT c.archived
      columns: {languageCode: {type: LowCardinality(String), source: "coalesce(c.language, '')"}}
      ignore: [usecase_id]
    score: {name: qa_marks, copies: [languageCode]}
"""


def loaded(tmp_path: Path, tables: str) -> Fleet:
    return load_fleet(write(tmp_path, tables + EXAMPLE))


def test_without_tables_every_cluster_has_the_default_ones(tmp_path: Path) -> None:
    for cluster in loaded(tmp_path, "").clusters.values():
        assert cluster.clickhouse_tables == TABLES
        assert cluster.clickhouse_tables.left_out() == ""


def test_tables_are_those_of_every_cluster_and_a_cluster_overrides_key_by_key(tmp_path: Path) -> None:
    own = "  voice-prod:\n    tables: {scorecard: {name: voice_cards, ignore: []}, score: {where: s.weight > 0}}\n"
    text = DECLARED + EXAMPLE.replace("  voice-prod:\n", own)
    fleet = load_fleet(write(tmp_path, text))
    east, voice = (fleet.clusters[name].clickhouse_tables for name in ("us-east-1-prod", "voice-prod"))
    assert (east.parent.clickhouse, east.child.clickhouse) == ("qa_cards", "qa_marks")
    assert (voice.parent.clickhouse, voice.child.clickhouse) == ("voice_cards", "qa_marks")
    assert (east.parent.where, voice.parent.where) == ("NOT c.archived", "NOT c.archived")
    assert (east.child.where, voice.child.where) == ("", "s.weight > 0")
    assert east.left_out() == "column usecase_id of qa_cards and rows of qa_cards outside 'where'"
    assert voice.left_out() == "rows of voice_cards outside 'where' and rows of qa_marks outside 'where'"
    # By the name of the code, files and state are the same as ever.
    assert [table.name for table in east] == [table.name for table in TABLES]


def test_a_declared_column_is_read_and_a_copy_of_it_is_a_copy(tmp_path: Path) -> None:
    dataset = loaded(tmp_path, DECLARED).dataset("us-east-1-prod", PROCESS)
    group = slice_group(dataset, ["spirit"], [date(2025, 6, 2)])
    card, mark = group.tables.parent.columns[-1], group.tables.child.columns[-1]
    assert (card.name, card.clickhouse, card.of_scorecard) == ("languageCode", "LowCardinality(String)", False)
    assert (mark.name, mark.source, mark.of_scorecard) == ("languageCode", card.source, True)
    for table in group.tables:
        sql = select_rows(table, group, dataset.cluster.postgres.relations)
        assert 'AS "languageCode"' in sql
        assert "AND (NOT c.archived)" in sql


def test_default_columns_may_be_absent_or_of_another_type(tmp_path: Path) -> None:
    text = """\
defaults:
  tables:
    scorecard:
      absent: [creator_user_id, submission_source]
      columns: {agent_user_id: {type: String, source: "coalesce(c.agent, '')"}, score: {type: Nullable(Float32), source: c.score}}
    score: {absent: [ai_value, template_revision_id], columns: {weight: {type: Nullable(Float64), source: s.weight / 100}}}
"""
    tables = loaded(tmp_path, text).clusters["voice-prod"].clickhouse_tables
    assert tables.left_out() == ""
    absent = {"creator_user_id", "submission_source"}
    assert [name for name in TABLES.parent.column_names if name not in absent] == list(tables.parent.column_names)
    assert set(TABLES.child.column_names) - set(tables.child.column_names) == {"ai_value", "template_revision_id"}
    cards, marks = ({column.name: column for column in table.columns} for table in reversed(tables))
    assert cards["score"].clickhouse == "Nullable(Float32)"
    assert (marks["weight"].source, marks["weight"].of_scorecard) == ("(s.weight / 100)", False)
    # A score's copy is one of the scorecard's column as it is now.
    assert (marks["agent_user_id"].source, marks["agent_user_id"].clickhouse) == ("(coalesce(c.agent, ''))", "String")
    assert marks["agent_user_id"].of_scorecard


def test_a_copy_may_not_look_like_a_column_of_the_score(tmp_path: Path) -> None:
    tables = "scorecard: {columns: {value: {type: Nullable(String), source: c.x}}}, score: {copies: [value]}"
    with pytest.raises(ConfigurationError, match="too much like it"):
        loaded(tmp_path, f"defaults: {{tables: {{{tables}}}}}\n")


def test_tables_whose_values_all_fit_have_a_condition_all_the_same() -> None:
    """Without the times that ClickHouse can't hold, nothing is left that may not fit."""
    without = replace(
        SCORECARD,
        columns=tuple(column for column in SCORECARD.columns if column.type is not TIME or column.source == "{time}"),
    )
    assert _values_fit(SCORECARD) != "true"
    assert _values_fit(without) == "true"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_rows_outside_where_are_not_in_question_either(tmp_path: Path, kind: object) -> None:
    chosen = next(each for each in KINDS if each == kind)
    dataset = loaded(tmp_path, DECLARED).dataset("us-east-1-prod", chosen)
    group = slice_group(dataset, ["spirit"], [date(2025, 6, 2)])
    sql = source_sql(QUARANTINED, dataset.cluster.postgres.relations, group)
    first, second = sql.split("UNION ALL")
    assert "AND (NOT c.archived)" in first
    assert "AND (NOT c.archived)" in second
    assert "WHEN ((coalesce(c.language, '')) IS NOT NULL) IS NOT TRUE THEN 'its languageCode is NULL'" in first


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ("scorecard: {name: other.qa_cards}", "scorecard.name: Value error, write the table's name alone"),
        ("scorecard: {name: 'qa cards'}", "scorecard.name: Value error, not a name for this table"),
        ("scorecard: {name: conversation}", "not a name for this table"),
        ("score: {name: reindex_layout}", "not a name for this table"),
        ("scorecard: {name: score}", "each needs a name of its own"),
        ("scorecard: {sorting_key: [day]}", "scorecard.sorting_key: unknown key: valid keys are absent, columns, ignore, name, where"),
        ("score: {version: at}", "score.version: unknown key"),
        ("conversation: {name: talks}", "tables.conversation: unknown key"),
        ("scorecard: {ignore: [comment, score]}", "scorecard.ignore.1: score is one of the columns that are compared"),
        ("scorecard: {ignore: [day]}", "day is one of the columns that are compared"),
        ("scorecard: {ignore: [a, a]}", "empty or repeated"),
        ("score: {copies: [score]}", "score.copies.0: score is no further column that is declared under scorecard"),
        ("scorecard: {absent: [template_id]}", "scorecard.absent.0: template_id is no column that can be absent"),
        ("score: {absent: [a]}", "these are agent_user_id, ai_value, auto_failed, comment, criterion_id"),
        ("scorecard: {columns: {customer: {type: String, source: c.x}}}", "this column has to be as it is"),
        ("score: {columns: {agent_user_id: {type: String, source: s.x}}}", "or is declared under scorecard"),
        ("score: {columns: {weight: {type: Int32, source: s.x}}}", "weight.type: Value error, not every value fits"),
        ("scorecard: {columns: {Score: {type: String, source: c.x}}}", "this column is there already"),
        ("scorecard: {columns: {version: {type: UInt64, source: c.x}}}", "not a name for a further column"),
        ("scorecard: {columns: {text_score: {type: String, source: c.x}}}", "not a name for a further column"),
        ("scorecard: {columns: {a: {type: Tuple(String), source: c.x}}}", "a.type: column a has the type Tuple(String)"),
        ("scorecard: {columns: {a: {type: String}}}", "columns.a: this required key is missing"),
        ("score: {columns: {a: {type: Int32, source: s.x}}}", "a.type: Value error, not every value fits into Int32"),
        ("score: {columns: {a: {type: String, source: s.x}}}", "a NULL doesn't fit into String"),
        ("score: {columns: {a: {type: Nullable(String), source: c.x}}}", "write s.x, of the only row that is known here"),
        ("score: {columns: {a: {type: String, source: \"coalesce(s.a, '') || s.b || coalesce(s.c, '')\"}}}", "a NULL doesn't fit"),
        ("scorecard: {columns: {kept: {type: String, source: c.x}}}", "not a name for a further column"),
        ("scorecard: {where: archived}", "scorecard.where: it names no column of its row"),
        ("scorecard: {where: c.id IN (SELECT id FROM x)}", "'SELECT' is not allowed"),
        ("scorecard: {where: c.at < now()}", "'now' is not allowed"),
        ("scorecard: {where: c.at < CURRENT_DATE}", "'CURRENT_DATE' is not allowed"),
    ],
)  # fmt: skip
def test_what_is_not_possible_is_refused_with_the_reason(tmp_path: Path, tables: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        loaded(tmp_path, f"defaults:\n  tables:\n    {tables}\n")
    text = str(error.value).replace("type: Value error, ", "type: ")
    assert words.replace("type: Value error, ", "type: ") in text
    # Once, at the line where it is written.
    assert len(re.findall(r"fleet.yaml:\d+:", text)) == 1 or "name of its own" in words


@pytest.mark.parametrize(
    "text",
    [
        "c.a = 1; DROP TABLE x",
        "c.a = 1 -- and",
        "c.a = 1 /* and */",
        "true) OR (c.a > 0",
        "(c.a > 0",
        "c.a[1)]",
        "c.a = $1",
        "c.a = 'open",
        'c.a = "open',
        "c.a = E'\\''",
        "c.a = U&'x'",
        "c.a = \\x",
        "r.a > 0 AND c.a > 0",
        '"r".a > 0 AND c.a > 0',
        "c.a > {time}",
        "random() < c.a",
        "pg_catalog.now() > c.a",
        '"now"() > c.a',
        "c.a < 'now'::timestamptz",
        "c.a < date ' Today'",
        "count(*) OVER () > c.a",
        "",
        "true",
    ],
)
def test_what_is_not_one_expression_over_its_row_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        checked_sql(text, "c")


@pytest.mark.parametrize(
    "text",
    [
        "c.now IS NULL AND c.user = 'it''s; -- {x}'",
        "coalesce(c.a, '') ~ '^[a-z]+$' AND (c.b->>'k')::int = ANY (ARRAY[1, 2])",
        "extract(epoch FROM c.at) > 1.5 AND public.f(c.a) IS DISTINCT FROM c.b",
        'c."Mixed" <> c.b\n  AND NOT c.c',
    ],
)
def test_an_expression_over_its_row_is_taken_as_it_is(text: str) -> None:
    assert checked_sql(text, "c").format() == text


def test_the_effective_file_and_its_schema_have_the_tables(tmp_path: Path) -> None:
    shown = effective(loaded(tmp_path, DECLARED), {})["clusters"]["voice-prod"]["tables"]
    assert shown["scorecard"]["name"] == "qa_cards"
    assert shown["score"]["copies"] == ["languageCode"]
    assert fleet_schema()["$defs"]["Defaults"]["properties"]["tables"] == {"$ref": "#/$defs/DeclaredTablesDefaults"}
    assert yaml.safe_load(yaml.safe_dump(shown)) == shown
