"""The pages of the documentation, taken apart: blocks, commands, links and headings.

What lives here: what a page says, as text. What does not: whether it is true (docs/test_pages.py, docs/test_commands.py).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]
#: The pages of an operator, and those of whoever changes the code.
PAGES = ("README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")))
ALL_PAGES = (*PAGES, "CONTRIBUTING.md", "CHANGELOG.md")

_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
#: What stands between two commands of one line.
_SEPARATORS = frozenset({"&&", "||", ";", "|"})


@dataclass(frozen=True)
class Block:
    """A block between fences. `text` has no more indentation than its least indented line."""

    page: str
    language: str
    text: str


@dataclass(frozen=True)
class Typed:
    """A command that a page tells its reader to type.

    Attributes:
        words: program and arguments, without what redirects its output.
        output: what the page shows of what it prints; empty where it shows nothing.
    """

    page: str
    words: tuple[str, ...]
    output: str = ""

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[Block]:
    return [
        Block(page, language, dedent(found["text"]))
        for found in _BLOCK.finditer(read(page))
        if found["language"] == language
    ]


def prose(page: str) -> str:
    """The page without its blocks."""
    return _BLOCK.sub("", read(page))


def typed(page: str) -> list[Typed]:
    """The commands of a page, in its order within each language: those of `bash` blocks, then those of `console` blocks."""
    commands = [
        Typed(page, words)
        for block in blocks(page, "bash")
        for line in _logical_lines(block.text)
        for words in _commands(line)
    ]
    for block in blocks(page, "console"):
        prompt, *outputs = re.split(r"^\$ (.*)\n", block.text, flags=re.MULTILINE)
        assert not prompt, f"{page}: a console block begins with '$ ' and a command"
        for line, output in zip(outputs[::2], outputs[1::2], strict=True):
            commands += [Typed(page, words, output) for words in _commands(line)]
    return commands


def _logical_lines(text: str) -> list[str]:
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def _commands(line: str) -> Iterator[tuple[str, ...]]:
    """
    >>> list(_commands("cd deploy && reindex-assets fleet schema > a.json   # a comment"))
    [('cd', 'deploy'), ('reindex-assets', 'fleet', 'schema')]
    """
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;>")
    lexer.whitespace_split = True
    found: list[str] = []
    words = iter(lexer)
    for word in words:
        if word in _SEPARATORS:
            yield tuple(found)
            found = []
        elif word.startswith(">"):
            next(words)
        else:
            found.append(word)
    if found:
        yield tuple(found)


def inline_code(page: str) -> list[str]:
    """What stands between backticks in the prose."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]


def links(page: str) -> list[str]:
    """The targets of a page's links and pictures."""
    return _LINK.findall(prose(page))


def anchors(page: str) -> list[str]:
    """The names by which links reach the headings of a page, as GitHub makes them.

    >>> anchors("docs/alerts.md")[1]
    'set-it-up'
    """
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def section(page: str, heading: str) -> str:
    """The prose below a heading, up to the next one of the same level or above."""
    level, text = re.split(rf"^(#+) {re.escape(heading)}\n", prose(page), maxsplit=1, flags=re.MULTILINE)[1:]
    return re.split(rf"^#{{1,{len(level)}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]


def rows_of_tables(text: str) -> list[list[str]]:
    """The cells of each row of the tables in a text."""
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        for line in text.splitlines()
        if line.strip().startswith("|") and not re.fullmatch(r"[|\s:-]+", line.strip())
    ]
