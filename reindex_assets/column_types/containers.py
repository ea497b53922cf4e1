"""Types that hold several values: arrays and maps.

What lives here: those. What does not: the types of what they hold (the other files).

The text begins with the number of values; each follows behind its length. ClickHouse has no NULL in the place of an array or a map: that
of Postgres is written as the empty one.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from reindex_assets.column_types.column_type import NULL, ColumnType, measured, shard_measured, shortened


def array(element: ColumnType, *, nullable: bool) -> ColumnType:
    """An array of one dimension.

    Args:
        nullable: whether its elements may be NULL.
    """

    def elements(value: str) -> str:
        return f"unnest({value}) WITH ORDINALITY AS elements (element, place)"

    text, shard_text = measured(f"({element.source_text('element')})"), shard_measured(element.shard_text("element"))
    if nullable:
        text, shard_text = f"coalesce({text}, '{NULL}')", f"ifNull({shard_text}, '{NULL}')"
    held = f"({element.holds('element')})" if element.holds else "element IS NOT NULL"
    refusals = [*filter(None, [element.limits]), *([] if nullable else ["is NULL"])]
    refused = f"{held} IS NOT TRUE" + (" AND element IS NOT NULL" if nullable else "")

    def shard_whole(value: str) -> str:
        texts = f"arrayMap(element -> toString({shard_text}), {value})"
        return f"concat(toString(length({value})), '[', arrayStringConcat({texts}))"

    def holds(value: str) -> str:
        # An array without elements has no dimensions.
        flat = f"coalesce(array_ndims({value}), 1) = 1"
        if nullable and not element.holds:
            return flat
        return f"({flat} AND NOT EXISTS (SELECT FROM {elements(value)} WHERE {refused}))"

    return ColumnType(
        clickhouse=f"Array({element.definition(nullable=nullable)})",
        arrow=pa.list_(element.arrow),
        source_value=lambda value: (
            f"ARRAY(SELECT {element.source_value('element')} FROM {elements(value)} ORDER BY place)"
        ),
        holds=holds,
        limits="has more than one dimension" + (f", or an element that {' or '.join(refusals)}" if refusals else ""),
        source_text=lambda value: (
            f"(SELECT count(*) || '[' || coalesce(string_agg({text}, '' ORDER BY place), '') FROM {elements(value)})"
        ),
        shard_text=shard_whole,
        # By its text, as NaNs and NULLs in arrays have no hash to rely on.
        shard_hashed=shard_whole,
        readable=shortened,
        can_be_null=False,
    )


def text_map(clickhouse: str, *, nullable: bool) -> ColumnType:
    """A map from text to text, of a json or jsonb object; what is no text in it is written as JSON.

    The order of a map in ClickHouse means nothing; a key that it holds twice does.

    Args:
        nullable: whether a value may be NULL, as JSON's null is.
    """

    pairs = "jsonb_each_text(({})::jsonb) AS pairs (key, value)"
    text = f"{measured('key')} || " + (f"coalesce({measured('value')}, '{NULL}')" if nullable else measured("value"))
    shard_value = shard_measured("value")
    shard_value = f"ifNull({shard_value}, '{NULL}')" if nullable else shard_value
    shard_pair = f"toString(concat({shard_measured('key')}, {shard_value}))"

    def shard_whole(value: str) -> str:
        sorted_pairs = f"arraySort(arrayMap((key, value) -> {shard_pair}, mapKeys({value}), mapValues({value})))"
        return f"concat(toString(length({value})), '[', arrayStringConcat({sorted_pairs}))"

    def holds(value: str) -> str:
        nulls = f"NOT EXISTS (SELECT FROM {pairs.format(value)} WHERE value IS NULL)"
        return (
            f"CASE jsonb_typeof(({value})::jsonb) WHEN 'object' THEN {'true' if nullable else nulls} "
            f"ELSE {value} IS NULL END"
        )

    return ColumnType(
        clickhouse=clickhouse,
        arrow=pa.map_(pa.string(), pa.string()),
        # The driver delivers no maps: keys and values in turns, for `delivered`.
        source_value=lambda value: (
            f"ARRAY(SELECT part FROM {pairs.format(value)}, "
            'unnest(ARRAY[key, value]) WITH ORDINALITY AS parts (part, place) ORDER BY key COLLATE "C", place)'
        ),
        holds=holds,
        limits="is no JSON object" if nullable else "is no JSON object, or holds null",
        source_text=lambda value: (
            f"(SELECT count(*) || '[' || coalesce(string_agg(pair, '' ORDER BY pair COLLATE \"C\"), '') "
            f"FROM (SELECT {text} AS pair FROM {pairs.format(value)}) AS texts)"
        ),
        shard_text=shard_whole,
        shard_hashed=shard_whole,
        readable=shortened,
        can_be_null=False,
    )


def delivered(values: pa.Array, arrow: pa.DataType) -> pa.Array:
    """What the driver has delivered of `source_value`, in the type of the rows on their way."""
    if not pa.types.is_map(arrow):
        return values.cast(arrow)
    parts = values.flatten()
    keys = np.arange(0, len(parts), 2)
    ends = np.cumsum(values.value_lengths().to_numpy()) // 2
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    return pa.MapArray.from_arrays(offsets, parts.take(pa.array(keys)), parts.take(pa.array(keys + 1)))
