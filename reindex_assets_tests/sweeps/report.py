"""The table of docs/settings.md, made of the lines that the sweeps have written.

What lives here: counting and wording. What does not: the sweeps (sweeps/__main__.py).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from reindex_assets_tests.sweeps.world import Verdict

#: What an address of the sweep's own stack and its engine's version look like.
_NOISE = re.compile(
    r"^\w+Error: |Received ClickHouse exception, code: \d+, server response: | ?\(?(for url|version) .*|shard 0 \([^)]*\) ?"
)


def counts(report: Path) -> str:
    """How many cases ended in which way."""
    counted = Counter(verdict for _, verdict, _ in read_cases(report))
    return ", ".join(f"{counted[verdict]:,} {verdict}" for verdict in Verdict)


def rows(report: Path) -> Iterator[str]:
    """A row of the table for each set of settings that is not plainly right."""
    others = sorted((case for case in read_cases(report) if case[1] != Verdict.RIGHT), key=lambda case: sorted(case[0]))
    for names, cases in groupby(others, key=lambda case: sorted(case[0])):
        listed = list(cases)
        values = "; ".join(_values(names, profile) for profile, _, _ in listed)
        verdicts = ", ".join(sorted({verdict for _, verdict, _ in listed}))
        yield f"| {', '.join(f'`{name}`' for name in names)} | {values} | {verdicts}: {_words(listed[0][2])} |"


def read_cases(report: Path) -> Iterator[tuple[dict[str, str], str, str]]:
    """Each case's settings, verdict and words."""
    for line in report.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        verdict, words = case.pop("")
        yield case, verdict, words


def _values(names: Iterable[str], profile: dict[str, str]) -> str:
    return ", ".join(f"`{profile[name]}`" if profile[name] else "empty" for name in names)


def _words(words: str) -> str:
    text = (
        _NOISE.sub("", words.partition("; shard")[0])
        .replace("|", "/")
        .replace("`", "'")
        .replace("<", "(")
        .replace(">", ")")
    )
    return " ".join(text.split())[:110].strip()
