"""Types that hold several values: arrays and maps.

What lives here: those. What does not: the types of what they hold (the other files).

The text of a map or of an array of texts is that of its JSON; that of another array begins with the number of its elements. ClickHouse has
no NULL in the place of an array or a map: that of Postgres is written as the empty one.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from reindex_assets.column_types.column_type import (
    NULL,
    ArrayText,
    ColumnType,
    Expression,
    measured,
    shard_measured,
    shortened,
)
from reindex_assets.column_types.json_text import json_text


def array(element: ColumnType, *, nullable: bool) -> ColumnType:
    """An array of one dimension.

    Args:
        nullable: whether its elements may be NULL.
    """

    def whole(value: str) -> str:
        return f"({value})::{element.in_arrays}[]" if element.in_arrays else f"({value})"

    def elements(value: str) -> str:
        return f"unnest({whole(value)}) AS elements (element)"

    text, empty = _array_text(element, whole, elements)
    shard_element = element.shard_text("element")
    measured_element = f"toString({shard_measured(shard_element)})"

    def shard_whole(value: str) -> str:
        def joined(each: str, null: str, separator: str) -> str:
            each = f"ifNull({each}, '{null}')" if nullable else each
            return f"arrayStringConcat(arrayMap(element -> toString({each}), {value}), '{separator}')"

        match element.array_text:
            case ArrayText.JSON:
                return f"concat('[', {joined(json_text('toString(element)'), 'null', ',')}, ']')"
            case ArrayText.JOINED:
                return f"concat(toString(length({value})), '[', {joined(shard_element, NULL, ',')})"
            case _:
                return f"concat(toString(length({value})), '[', {joined(measured_element, NULL, '')})"

    refusals = [*filter(None, [element.limits]), *([] if nullable else ["is NULL"])]

    def holds(value: str) -> str:
        fits = "true" if nullable else f"array_position({whole(value)}, NULL) IS NULL"
        if element.holds:
            refused = ("element IS NOT NULL AND " if nullable else "") + f"({element.holds('element')}) IS NOT TRUE"
            fits = f"NOT EXISTS (SELECT FROM unnest({value}) AS elements (element) WHERE {refused})"
        # An array without elements has no dimensions. Of one with two of them, array_position would be an error.
        return f"CASE WHEN coalesce(array_ndims({value}), 1) = 1 THEN {fits} ELSE false END"

    def source_value(value: str) -> str:
        if element.in_arrays:
            return f"coalesce({whole(value)}, ARRAY[]::{element.in_arrays}[])"
        return f"ARRAY(SELECT {element.source_value('element')} FROM {elements(value)})"

    return ColumnType(
        clickhouse=f"Array({element.definition(nullable=nullable)})",
        arrow=pa.list_(element.arrow),
        source_value=source_value,
        holds=holds,
        limits="has more than one dimension" + (f", or an element that {' or '.join(refusals)}" if refusals else ""),
        source_text=lambda value: f"coalesce({text(value)}, '{empty}')",
        shard_text=shard_whole,
        # By its text, as NaNs and NULLs in arrays have no hash to rely on.
        shard_hashed=shard_whole,
        readable=shortened,
        can_be_null=False,
    )


def _array_text(element: ColumnType, whole: Expression, elements: Expression) -> tuple[Expression, str]:
    """The text of an array in Postgres, and that of the empty one, which stands for NULL.

    unnest() gives the elements in their order, and nothing sorts them afterwards.
    """
    match element.array_text:
        case ArrayText.JSON:
            return (lambda value: f"array_to_json({whole(value)})::text"), "[]"
        case ArrayText.JOINED:
            return (
                lambda value: f"cardinality({whole(value)}) || '[' || array_to_string({whole(value)}, ',', '{NULL}')"
            ), "0["
        case _:
            text = f"coalesce({measured('(' + element.source_text('element') + ')')}, '{NULL}')"
            return (
                lambda value: (
                    f"cardinality({whole(value)}) || '[' || "
                    f"array_to_string(ARRAY(SELECT {text} FROM {elements(value)}), '')"
                )
            ), "0["


def text_map(clickhouse: str, *, nullable: bool) -> ColumnType:
    """A map from text to text, of a json or jsonb object; what is no text in it is written as JSON. Its text is that of a jsonb.

    The order of a map in ClickHouse means nothing; a key that it holds twice does.

    Args:
        nullable: whether a value may be NULL, as JSON's null is.
    """

    def shard_whole(value: str) -> str:
        key, held = json_text("pair.1"), json_text("pair.2")
        held = f"ifNull({held}, 'null')" if nullable else held
        # The order of a jsonb.
        pairs = (
            f"arraySort(pair -> (length(pair.1), pair.1, pair.2), "
            f"arrayMap((key, held) -> (toString(key), toString(held)), mapKeys({value}), mapValues({value})))"
        )
        texts = f"arrayMap(pair -> toString(concat({key}, ': ', {held})), {pairs})"
        # Braces, which would look like parameters of the statement.
        return f"concat('\\x7b', arrayStringConcat({texts}, ', '), '\\x7d')"

    def has(value: str, condition: str) -> str:
        return f"jsonb_path_exists(({value})::jsonb, 'strict $.* ? ({condition})')"

    def holds(value: str) -> str:
        fits = "true" if nullable else f"NOT {has(value, '@ == null')}"
        return f"CASE jsonb_typeof(({value})::jsonb) WHEN 'object' THEN {fits} ELSE {value} IS NULL END"

    def source_text(value: str) -> str:
        texts = f"(SELECT jsonb_object_agg(key, value) FROM jsonb_each_text(({value})::jsonb))"
        other = has(value, '@.type() != "string"')
        return f"coalesce(CASE WHEN {other} THEN {texts} ELSE ({value})::jsonb END::text, '{{{{}}}}')"

    return ColumnType(
        clickhouse=clickhouse,
        arrow=pa.map_(pa.string(), pa.string()),
        # The driver delivers no maps: keys and values in turns, for `delivered`.
        source_value=lambda value: f"ARRAY(SELECT unnest(ARRAY[key, value]) FROM jsonb_each_text(({value})::jsonb))",
        holds=holds,
        limits="is no JSON object" if nullable else "is no JSON object, or holds null",
        source_text=source_text,
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
