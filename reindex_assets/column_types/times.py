"""Types of times: days, and instants of any precision.

What lives here: those. What does not: days of slices (selection/days.py).

An instant that has more digits than its column is rounded down, to the past, as a shard's number and ClickHouse's own conversions are.
The digits are cut where Postgres is read, so that ClickHouse never rounds.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from reindex_assets.column_types.column_type import ArrayText, ColumnType, Numbers, eight_bytes, hexadecimal

#: DateTime64 holds the years 1900 to 2299 (ClickHouse documentation, DateTime64); beyond it the engine clamps in silence.
FIRST_TIME = datetime(1900, 1, 1, tzinfo=UTC)
END_TIME = datetime(2300, 1, 1, tzinfo=UTC)
#: With nine digits, 64 bits end here: 2**63 nanoseconds since 1970.
_END_OF_NANOSECONDS = datetime(2262, 4, 11, 23, 47, 16, 854_776, tzinfo=UTC)
#: DateTime counts seconds since 1970 in 32 bits, Date days in 16.
_FIRST_SECOND = datetime(1970, 1, 1, tzinfo=UTC)
_END_OF_SECONDS = datetime(2106, 2, 7, 6, 28, 16, tzinfo=UTC)
_LAST_DAY = date(2149, 6, 6)

#: Postgres counts microseconds from here.
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECONDS_TO_2000 = 946_684_800_000_000


def _readable_time(text: str) -> str:
    microseconds = int.from_bytes(bytes.fromhex(text[:16]), "big", signed=True)
    time = (_EPOCH + timedelta(microseconds=microseconds)).replace(tzinfo=None).isoformat(" ", "microseconds")
    return time + text[16:]


def _rounded(value: str, precision: int) -> str:
    """In Postgres: rounded down. The microseconds of a minute are never negative."""
    if precision >= 6:
        return value
    return f"(({value}) - extract(microseconds FROM {value})::int % {10 ** (6 - precision)} * interval '1 microsecond')"


def _instant(
    clickhouse: str, precision: int, first: datetime, end: datetime, microseconds: str, digits: str = ""
) -> ColumnType:
    """An instant.

    Args:
        microseconds: of a value since 1970, as a ClickHouse expression of Int64 with the value as `{0}`.
        digits: those that follow, as an expression of a text that is empty where there are none.
    """

    def shard_text(value: str) -> str:
        text = hexadecimal(f"{microseconds.format(value)} - {_MICROSECONDS_TO_2000}")
        return f"concat({text}, {digits.format(value)})" if digits else text

    return ColumnType(
        clickhouse=clickhouse,
        arrow=pa.timestamp("us", "UTC"),
        source_value=lambda value: _rounded(value, precision),
        holds=lambda value: (
            f"{value} >= timestamptz '{first.isoformat()}' AND {value} < timestamptz '{end.isoformat()}'"
        ),
        limits=f"lies outside the times {first:%Y-%m-%d} to {end - timedelta(microseconds=1):%Y-%m-%d %H:%M:%S}",
        # What Postgres stores; extract(epoch ...) would make a number of arbitrary precision, which takes five times as long.
        source_text=lambda value: f"encode(timestamptz_send({_rounded(value, precision)}), 'hex')",
        shard_text=shard_text,
        readable=_readable_time,
        numbers=eight_bytes,
        shard_numbers=lambda value: [f"reinterpretAsUInt64({microseconds.format(value)})"],
    )


def date_time(zone: str | None) -> ColumnType:
    """Whole seconds. The zone says only how ClickHouse shows them."""
    return _instant(
        f"DateTime('{zone}')" if zone else "DateTime",
        0,
        _FIRST_SECOND,
        _END_OF_SECONDS,
        "toInt64(toUnixTimestamp({0})) * 1000000",
    )


def date_time_64(precision: int, zone: str | None) -> ColumnType:
    """Seconds with 0 to 9 digits behind the point; Postgres has 6. The zone says only how ClickHouse shows them.

    >>> date_time_64(3, None).clickhouse
    'DateTime64(3)'
    """
    clickhouse = f"DateTime64({precision}, '{zone}')" if zone else f"DateTime64({precision})"
    if precision <= 6:
        return _instant(clickhouse, precision, FIRST_TIME, END_TIME, "toUnixTimestamp64Micro({0})")
    # What another writer may have put behind the microseconds makes another text.
    ticks, more = "reinterpretAsInt64({0})", 10 ** (precision - 6)
    rest = f"positiveModulo({ticks}, {more})"
    return _instant(
        clickhouse,
        precision,
        FIRST_TIME,
        END_TIME if precision < 9 else _END_OF_NANOSECONDS,
        f"intDiv({ticks} - {rest}, {more})",
        f"if({rest} = 0, '', leftPad(toString({rest}), {precision - 6}, '0'))",
    )


def _day_numbers(values: pa.Array) -> list[Numbers]:
    return [pc.fill_null(values.view(pa.int32()).cast(pa.int64()), 0).to_numpy(zero_copy_only=False)]


def _day(clickhouse: str, first: date, last: date) -> ColumnType:
    """A day, out of a date; or the day in UTC, out of an instant."""
    return ColumnType(
        clickhouse=clickhouse,
        arrow=pa.date32(),
        source_value=lambda value: f"({value})::date",
        holds=lambda value: f"({value})::date BETWEEN date '{first}' AND date '{last}'",
        limits=f"lies outside the days {first} to {last}",
        source_text=lambda value: f"({value})::date::text",
        in_arrays="date",
        array_text=ArrayText.JOINED,
        numbers=_day_numbers,
        shard_numbers=lambda value: [f"reinterpretAsUInt64(toInt64(toInt32({value})))"],
    )


TIME = date_time_64(6, "UTC")
DATE = _day("Date", _FIRST_SECOND.date(), _LAST_DAY)
DATE_32 = _day("Date32", FIRST_TIME.date(), END_TIME.date() - timedelta(days=1))
