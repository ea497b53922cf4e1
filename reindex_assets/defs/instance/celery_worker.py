"""A worker of the Celery run launcher: the process that starts runs on a machine of its own.

What lives here: the worker's Celery application, made from the launcher that DAGSTER_HOME's dagster.yaml names, so that both ends agree,
and how a worker takes and keeps runs. What does not: the launcher, which is dagster-celery's, and its address (deploy/celery/dagster.yaml).
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from reindex_assets.defs.dagster_private import InstanceRef
from reindex_assets.errors import ConfigurationError, ReindexError

if TYPE_CHECKING:
    from celery import Celery

_INSTALL = "install it with 'pip install -c constraints.txt .[celery]'"
#: How long a worker may take to answer, while runs keep its machine busy.
_ANSWER_SECONDS = 10.0


class BrokerError(ReindexError):
    """The broker does not answer."""


def work(name: str, runs: int, log_level: str) -> None:
    """Runs what the broker hands out until it is asked to stop; then it exits once its runs have ended.

    Args:
        name: the worker's name; the machine's is added to it.
        runs: how many runs at once, each in a process of its own.

    Raises:
        ConfigurationError: dagster-celery is not installed, or the instance has another launcher.
    """
    app = worker_app()
    app.worker_main(
        [
            "worker",
            *("--hostname", f"{name}@%h"),
            *("--loglevel", log_level),
            *("--concurrency", str(runs)),
            # A new process for each run: its memory is given back, and no run inherits anything from another.
            *("--max-tasks-per-child", "1"),
            # A run that waited in a busy worker would wait while others are free, and die with that worker, unseen for an hour.
            "--disable-prefetch",
            "--without-gossip",
            "--without-mingle",
        ]
    )


def answers(name: str) -> bool:
    """Whether the worker of that name on this machine answers over the broker.

    Raises:
        ConfigurationError: as `work`.
        BrokerError: the broker can't be asked.
    """
    app = worker_app()
    # Ask only once: whatever monitors the worker asks again.
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, "max_retries": 1}
    from kombu.exceptions import OperationalError

    try:
        answers = app.control.inspect(destination=[f"{name}@{socket.gethostname()}"], timeout=_ANSWER_SECONDS).ping()
    except OperationalError as error:
        raise BrokerError(f"the broker at {app.connection().as_uri()} can't be asked: {error}") from error
    return bool(answers)


def worker_app() -> Celery:
    """The launcher's own Celery application, with the task that executes a run. Connects to nothing.

    Raises:
        ConfigurationError: as `work`.
    """
    try:
        from dagster_celery.launcher import CeleryRunLauncher
        from dagster_celery.tasks import create_execute_job_task
    except ImportError as error:
        raise ConfigurationError(f"a worker needs dagster-celery ({error}): {_INSTALL}") from None
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        raise ConfigurationError(
            "DAGSTER_HOME is not set: point it at the directory with the dagster.yaml of your deployment"
        )
    launcher: Any = InstanceRef.from_dir(os.path.abspath(home)).run_launcher
    if not isinstance(launcher, CeleryRunLauncher):
        raise ConfigurationError(
            f"the dagster.yaml in {home} launches runs by {type(launcher).__name__}, so no run would ever reach a worker: "
            "use deploy/celery/dagster.yaml for every process of this deployment"
        )
    app: Celery = launcher.celery
    create_execute_job_task(app)
    # The broker must not start a task twice: for a run that was interrupted, Dagster itself launches a new one.
    app.conf.task_acks_late = False
    return app
