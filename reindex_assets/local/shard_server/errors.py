"""ClickHouse's errors.

What lives here: the code and the HTTP status for an error of the engine, and the trailer of an error in mid-stream. What does not: sending
them (answers.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CODE = re.compile(r"Code: (\d+)\. ")
# An error in reading an INSERT's data is thrown again with the same prefix.
_REPEATED_PREFIX = re.compile(r"^(Code: \d+\. DB::Exception: )\1")
_ENGINE_PREFIX = re.compile(r"^.*?(?=Code: \d+\. )", re.DOTALL)

# HTTP statuses as in ClickHouse's HTTPHandler; for every other code it is 500.
_BAD_REQUEST = (6, 27, 32, 33, 36, 38, 41, 43, 53, 62, 69, 70, 72, 117, 130, 131, 158, 457, 474, 533, 636)
_NOT_FOUND = (46, 47, 50, 56, 60, 63, 73, 81, 115, 336, 372)
_STATUSES = {
    **dict.fromkeys(_BAD_REQUEST, 400),
    **dict.fromkeys(_NOT_FOUND, 404),
    **dict.fromkeys((192, 193, 291, 497, 516), 403),
    194: 401,
    159: 408,
    209: 408,
    48: 501,
}


@dataclass
class ServerError(Exception):
    """An error in ClickHouse's words that the server raises, not the engine."""

    code: int
    name: str
    message: str

    def __str__(self) -> str:
        return f"Code: {self.code}. DB::Exception: {self.message}. ({self.name})"


@dataclass(frozen=True)
class Failure:
    """An error as a client receives it: ClickHouse's code, the HTTP status and the full text."""

    code: int
    status: int
    text: str


def describe(error: BaseException, version: str) -> Failure:
    """The failure that a client receives for an exception of the engine, of this server or of Python.

    >>> describe(RuntimeError("Streaming query failed: Code: 60. DB::Exception: No t. (UNKNOWN_TABLE)"), "26.9").status
    404
    """
    text = _REPEATED_PREFIX.sub(r"\1", _ENGINE_PREFIX.sub("", str(error), count=1).strip())
    match = _CODE.match(text)
    if match is None:
        # ClickHouse's code for an unknown exception.
        code = 1002
        text = f"Code: {code}. DB::Exception: {type(error).__name__}: {text}. (UNKNOWN_EXCEPTION)"
    else:
        code = int(match.group(1))
    if "(version " not in text[-60:]:
        text = f"{text} (version {version} (chdb shard))"
    return Failure(code, _STATUSES.get(code, 500), text)


def trailer(failure: Failure, tag: str) -> bytes:
    """The block that ClickHouse appends to a result that fails after the headers were sent."""
    message = f"{failure.text}\n".encode()
    head = f"\r\n__exception__\r\n{tag}\r\n".encode()
    return head + message + f"{len(message)} {tag}\r\n__exception__\r\n".encode()
