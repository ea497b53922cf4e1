"""A quoted identifier, whatever it holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reindex_assets.clickhouse.shards import quoted


@given(st.text())
def test_a_quoted_identifier_ends_where_it_should_and_says_what_it_said(name: str) -> None:
    text = quoted(name)
    assert text[0] == text[-1] == "`"
    read, characters = "", iter(text[1:-1])
    for character in characters:
        # A bare backquote inside would end the identifier.
        assert character != "`"
        read += next(characters) if character == "\\" else character
    assert read == name
