"""The command `worker`, a Celery worker. What lives here: its arguments. What does not: the worker (defs/instance/celery_worker.py)."""

from __future__ import annotations

from typing import Annotated

import typer

from reindex_assets.cli import options


def worker(
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="The worker's name, before '@' and the host name.")
    ] = "reindex",
    runs: Annotated[
        int, typer.Option("--runs", metavar="N", min=1, help="Runs at once, each a process of up to 400 MB.")
    ] = 1,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only check whether this machine's worker of this name answers (status 0 or 1)."),
    ] = False,
    log_level: Annotated[
        str, typer.Option("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR.")
    ] = "INFO",
) -> None:
    """Executes runs of Dagster's Celery launcher (docs/deploy.md) on this machine.

    On SIGTERM, it ends when its runs have ended.
    """
    # Dagster and Celery take seconds to import, and other commands don't need them.
    from reindex_assets.defs.instance.celery_worker import answers, work

    if not check:
        work(name, runs, log_level)
    elif not answers(name):
        typer.echo(f"no worker {name} answers on this machine", err=True)
        raise typer.Exit(options.DIFFERENT)
