"""A group of commands: how it lists them, and how it shows an error.

What lives here: the order of the commands, their headings, and exit statuses of errors. What does not: the commands (cli/app.py and the
files that it assembles).
"""

from __future__ import annotations

import io
import os
import select
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from reindex_assets.cli import options
from reindex_assets.cli.render.terminal import open_console
from reindex_assets.errors import ReindexError

#: The program's commands in the order of use, under the headings of the help.
_PANELS = {
    "Set up": ("fleet", "schema"),
    "First load": ("backfill", "status"),
    "Every day": ("problems", "check", "verify", "reindex", "repairs"),
    "Now and then": ("appeals", "reshard"),
    "Processes": ("worker",),
    "On this machine, with made-up data": ("demo", "dev", "local"),
}
#: As a shell calls the end by a pipe that nobody reads.
_NOBODY_READS = 128 + signal.SIGPIPE
_ORDER = [name for names in _PANELS.values() for name in names]


def panel_of(name: str) -> str:
    """The heading of the help under which a command is listed."""
    return next(panel for panel, names in _PANELS.items() if name in names)


#: The exit status after Ctrl-C, as shells have it.
INTERRUPTED = 130


class Commands(TyperGroup):
    """Lists commands in the order of use, and options without a type where they take no value.

    Shows an error as a sentence, and ends with the status that claims nothing: 1 would say that something differs.
    REINDEX_DEBUG adds the trace of an error that nobody expected.
    """

    exit_status = options.COULD_NOT_TELL

    def list_commands(self, ctx: Any) -> list[str]:
        names = super().list_commands(ctx)
        return sorted(names, key=_ORDER.index) if ctx.parent is None else names

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _show_as_flags(command.get_params(ctx))
        return command

    def get_params(self, ctx: Any) -> Any:
        parameters = super().get_params(ctx)
        _show_as_flags(parameters)
        return parameters

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _say("[red]interrupted:[/red] run it again to continue")
            with suppress(OSError):
                sys.stdout.flush()
            # Threads that wait for an engine would keep the process, in silence, until it answers.
            os._exit(INTERRUPTED)
        except typer.Abort:
            # Somebody ended a question, or the input did.
            sentence = "aborted"
        except ReindexError as error:
            sentence = str(error)
        except BrokenPipeError as error:
            if _output_is_closed():
                raise typer.Exit(_NOBODY_READS) from None
            sentence = _unexpected(error)
        except Exception as error:
            if hasattr(error, "exit_code"):
                # An exit, or a mistake in the arguments, which typer shows.
                raise
            sentence = _unexpected(error)
        _say(f"[red]error:[/red] {escape(sentence)}")
        raise typer.Exit(self.exit_status)


def _say(sentence: str) -> None:
    """On standard error; where nobody reads that, the exit status still says it."""
    with suppress(BrokenPipeError):
        open_console(stderr=True).print(sentence, highlight=False, soft_wrap=True)


def _unexpected(error: Exception) -> str:
    if os.environ.get("REINDEX_DEBUG"):
        open_console(stderr=True).print_exception()
    return (
        f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:600]}. The command stopped there, and claims "
        "nothing. Run it again; if that doesn't help, report this with the trace, which REINDEX_DEBUG=1 shows"
    )


def _output_is_closed() -> bool:
    """Whether whoever read the output has seen enough, as `head` does; it goes nowhere from then on."""
    try:
        output = sys.stdout.fileno()
    except io.UnsupportedOperation:
        return False
    poll = select.poll()
    poll.register(output, select.POLLOUT)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    # What is left in the buffer would fail once more when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def _show_as_flags(parameters: Sequence[Any]) -> None:
    """Typer names the type of a flag `<bool>`, as if it took a value (0.29)."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
