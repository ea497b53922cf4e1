"""The shard of each row of a group of slices: by its time, or the shard that holds its conversation.

What lives here: the shards for both kinds, and reading which conversations each shard holds. What does not: the rule by time
(selection/shard_rule.py), and cutting rows by shard (reindex/rows.py).

One query per shard reads all conversations of a window. The table `conversation` belongs to the product and is only read. A conversation
that starts on a different day there than in Postgres is missing from the result, so whatever is still missing is looked up by its id. So is
what an earlier shard may hold on another day: the first shard with a conversation counts, whichever days were asked for. A scorecard whose
conversation is on no shard is placed by the conversation's time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reindex_assets.clickhouse.shards import ShardConnection, ShardSet
from reindex_assets.model import Slice, Table
from reindex_assets.selection.groups import SliceGroup
from reindex_assets.selection.row_keys import joined_keys
from reindex_assets.selection.shard_rule import shard_expression, source_shard_expression
from reindex_assets.selection.shard_sql import IN_SLICES, OF_CUSTOMERS, shard_scope

_Numbers = np.ndarray[Any, np.dtype[Any]]

#: By how many days the engines may differ about the start of a conversation before it is looked up by its id.
_MARGIN = timedelta(days=1)
_IDS_A_QUESTION = 25_000
_KEY = ("customer", "profile", "conversation_id")
#: In place of a shard: no shard holds the conversation.
_NOWHERE = -1

_SELECT = f"SELECT DISTINCT {', '.join(_KEY)} FROM conversation\nWHERE {OF_CUSTOMERS}\n  AND "
_IN_WINDOW = """\
toDate32(conversation_start_time) BETWEEN {near_days:Array(Date32)}[1] AND {near_days:Array(Date32)}[-1]
  AND toDate32(conversation_start_time) IN {near_days:Array(Date32)}"""
_BY_ID = "conversation_id IN {ids:Array(String)}"
#: Rows whose conversation may be on another shard; `resolve` finds out.
MAY_BE_ELSEWHERE = (
    f"(({', '.join(_KEY)}) NOT IN ({_SELECT}{_IN_WINDOW}) OR conversation_id IN {{several:Array(String)}})"
)


class GroupPlacement:
    """The shards of the rows of a group."""

    def __init__(self, shards: ShardSet, group: SliceGroup) -> None:
        self._shards = shards
        self._group = group
        self._is_looked_up = group.kind.is_of_conversations
        self._keys: pa.Array = pa.array([], pa.binary())
        #: The conversation's id of each key; null if no shard holds it.
        self._ids: pa.Array = pa.array([], pa.string())
        self._shard_of_key: _Numbers = np.empty(0, dtype=np.int64)
        #: Conversations that are on several shards: their scorecards belong on the first of these.
        self._several: list[str] = []
        #: Slices in which `by_shard` found rows whose conversation is on no shard yet: it may arrive on one at any time.
        self.without_conversation_shard: set[Slice] = set()
        if self._is_looked_up:
            self._look_up(_SELECT + _IN_WINDOW, {})
            self._ask_earlier_shards()

    @property
    def shard_count(self) -> int:
        return len(self._shards)

    # --- rows

    def resolve(self, rows: pa.RecordBatch | pa.Table, by_time: _Numbers) -> tuple[_Numbers, _Numbers]:
        """The shards of some rows, and which of those rows are placed by time because no shard holds their conversation.

        Args:
            rows: with the columns customer, profile and conversation_id, if the kind has conversations.
            by_time: the shard of each row by the rule of time.
        """
        if not self._is_looked_up or not rows.num_rows:
            return by_time, np.zeros(rows.num_rows, dtype=bool)
        keys = joined_keys(rows, _KEY)
        positions = self._positions(keys)
        if (positions < 0).any():
            missing = pc.unique(rows.column("conversation_id").filter(pa.array(positions < 0)))
            self._ask_by_id(missing.cast(pa.string()), pc.unique(keys.filter(pa.array(positions < 0))))
            positions = self._positions(keys)
        shards_held = self._shard_of_key[positions]
        without_conversation_shard: _Numbers = shards_held == _NOWHERE
        placed: _Numbers = np.where(without_conversation_shard, by_time, shards_held)
        return placed, without_conversation_shard

    def _positions(self, keys: pa.Array) -> _Numbers:
        positions: _Numbers = pc.index_in(keys, value_set=self._keys).fill_null(-1).to_numpy(zero_copy_only=False)
        return positions

    # --- sums

    @property
    def source_columns(self) -> tuple[str, ...]:
        """The columns by which a Postgres statement has to group its sums, for `by_shard`."""
        columns = (f"{source_shard_expression(self.shard_count)} AS shard",)
        return (*columns, "c.profile", "c.conversation_id") if self._is_looked_up else columns

    @property
    def source_names(self) -> tuple[str, ...]:
        """The names of `source_columns`."""
        return ("shard", "profile", "conversation_id") if self._is_looked_up else ("shard",)

    def by_shard(self, rows: pa.Table, sums: Sequence[str]) -> list[dict[str, Any]]:
        """The rows of such a statement, summed by shard. Sums come as text where Postgres' numbers exceed 64 bits."""
        if not self._is_looked_up:
            return list(rows.to_pylist())
        shards, without_conversation_shard = self.resolve(rows, rows.column("shard").to_numpy())
        positions = (
            rows.select(["customer", "day"])
            .filter(pa.array(without_conversation_shard))
            .group_by(["customer", "day"])
            .aggregate([])
        )
        self.without_conversation_shard |= {Slice.of_row(row) for row in positions.to_pylist()}
        by = [name for name in rows.column_names if name not in (*self.source_names, *sums)]
        columns = {name: rows.column(name) for name in by}
        columns |= {name: rows.column(name).cast(pa.decimal128(38)) for name in sums}
        summed = pa.table({**columns, "shard": pa.array(shards, pa.int32())}).group_by([*by, "shard"])
        totals = summed.aggregate([(name, "sum") for name in sums])
        return list(totals.rename_columns([name.removesuffix("_sum") for name in totals.column_names]).to_pylist())

    @property
    def misplaced(self) -> str:
        """How many rows belong on another shard, as a ClickHouse expression; 0 for kinds with conversations, which `ask_misplaced`
        counts."""
        if self._is_looked_up:
            return "toUInt64(0)"
        return f"countIf({shard_expression(self.shard_count)} != {{shard:UInt16}})"

    @property
    def scope(self) -> dict[str, object]:
        """The parameters of the group's statements on a shard, including those with `MAY_BE_ELSEWHERE`."""
        return {**shard_scope(self._group), **self._window(), "several": self._several}

    def ask_misplaced(self, table: Table) -> Mapping[str, Callable[[ShardConnection], pa.Table]]:
        """Another query for each shard: its rows whose conversation may be on another shard."""
        if not self._is_looked_up:
            return {}
        sql = f"""\
SELECT customer, day, toString(template_id) AS template, profile, conversation_id,
       toInt32({shard_expression(self.shard_count)}) AS shard, toInt64(count()) AS found
FROM {table.clickhouse}
WHERE {IN_SLICES}
  AND {MAY_BE_ELSEWHERE}
GROUP BY customer, day, {table.clickhouse}.template_id, profile, conversation_id, shard"""
        scope = self.scope
        return {_misplaced(table): lambda shard: shard.table(sql, scope)}

    def misplaced_in(self, answers: Mapping[tuple[str, int], Any]) -> Iterator[tuple[tuple[Slice, str], str, int, int]]:
        """Reads the results of `ask_misplaced`: (slice and template, table name, shard, number of rows that belong elsewhere)."""
        for table in self._group.tables if self._is_looked_up else ():
            for shard in range(self.shard_count):
                rows: pa.Table = answers[_misplaced(table), shard]
                if not rows.num_rows:
                    continue
                belongs, _ = self.resolve(rows, rows.column("shard").to_numpy())
                wrong = rows.filter(pa.array(belongs != shard)).select(["customer", "day", "template", "found"])
                for row in wrong.to_pylist():
                    yield (Slice.of_row(row), row["template"]), table.name, shard, row["found"]

    # --- conversations

    def _window(self) -> dict[str, object]:
        near = {day + margin for day in self._group.days for margin in (-_MARGIN, timedelta(), _MARGIN)}
        return {"near_days": sorted(near)}

    def _look_up(self, sql: str, parameters: Mapping[str, object]) -> None:
        """Adds the conversations that a statement finds."""
        scope = {**shard_scope(self._group), **self._window(), **parameters}
        self._take(self._shards.map(lambda shard: shard.table(sql, scope))[: len(self._shards)])

    def _ask_by_id(self, ids: pa.Array, keys: pa.Array) -> None:
        for some in _portions(ids):
            self._look_up(_SELECT + _BY_ID, {"ids": some})
        # What is still missing is on no shard. It is added last, so that it counts only if no shard holds the conversation.
        left = keys.filter(pc.invert(pc.is_in(keys, value_set=self._keys)))
        self._keys = pa.concat_arrays([self._keys, left])
        self._ids = pa.concat_arrays([self._ids, pa.nulls(len(left), pa.string())])
        self._shard_of_key = np.concatenate([self._shard_of_key, np.full(len(left), _NOWHERE, dtype=np.int64)])

    def _ask_earlier_shards(self) -> None:
        """Looks for the conversations of the window on each shard before theirs: it may hold them on a day outside the window."""

        def ask(shard: ShardConnection) -> pa.Table:
            ids = pc.unique(self._ids.filter(pa.array(self._shard_of_key > shard.index)))
            scope = shard_scope(self._group)
            return pa.concat_tables(
                [_NOTHING, *(_plain(shard.table(_SELECT + _BY_ID, {**scope, "ids": some})) for some in _portions(ids))]
            )

        self._take(self._shards.map(ask)[: len(self._shards)])

    def _take(self, answers: Sequence[pa.Table]) -> None:
        """Adds the conversations of each shard, and keeps one shard for each: the first, if it is on several."""
        # A retiring shard keeps no scorecard, even if it holds the conversation: its answer is not among these.
        shards_held = [np.full(rows.num_rows, shard, dtype=np.int64) for shard, rows in enumerate(answers)]
        held = pa.concat_tables([_NOTHING, *(_plain(rows) for rows in answers)])
        numbers = np.concatenate([self._shard_of_key, *shards_held])
        keys = pa.concat_arrays([self._keys, joined_keys(held, _KEY)])
        ids = pa.concat_arrays([self._ids, held.column("conversation_id").combine_chunks()])
        codes = pc.dictionary_encode(keys)
        positions = codes.indices.to_numpy(zero_copy_only=False)
        by_shard = np.lexsort((numbers, positions))
        _, first, counts = np.unique(positions[by_shard], return_index=True, return_counts=True)
        kept, last = by_shard[first], by_shard[first + counts - 1]
        self._keys, self._ids, self._shard_of_key = codes.dictionary, ids.take(pa.array(kept)), numbers[kept]
        self._several += self._ids.filter(pa.array(numbers[last] != numbers[kept])).drop_null().to_pylist()


def _misplaced(table: Table) -> str:
    """The key of the question about a table's misplaced rows."""
    return f"{table.name} elsewhere"


#: Conversations on no shard.
_NOTHING = pa.table({name: pa.array([], pa.string()) for name in _KEY})


def _plain(conversations: pa.Table) -> pa.Table:
    """An answer as plain texts: an empty one has no columns."""
    if not conversations.num_rows:
        return _NOTHING
    return pa.table({name: conversations.column(name).cast(pa.string()) for name in _KEY})


def _portions(ids: pa.Array) -> Iterator[list[str]]:
    for start in range(0, len(ids), _IDS_A_QUESTION):
        yield ids.slice(start, _IDS_A_QUESTION).to_pylist()
