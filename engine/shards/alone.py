"""How a launcher comes to be the only one of its state directory, and leaves whoever started it; and who holds a lock. Standard
library only."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

from engine.paths import StateDir


def take_lock(state: StateDir) -> int | None:
    """The locked descriptor, or None when another launcher holds it."""
    return lock_file(state.launcher_lock)


def lock_file(path: Path) -> int | None:
    """The locked descriptor of a file, or None when another process holds it. Tries for a second: a client may just be
    probing."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    for _ in range(20):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            time.sleep(0.05)
    os.close(lock)
    return None


def is_held(path: Path) -> bool:
    """Whether a process of this machine holds the lock on that file."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def detach() -> int:
    """Go on in a child of its own session, and keep the caller waiting until the launcher answers.

    Returns in the child only: the descriptor that takes one byte, the exit status of what the caller started.
    """
    ready, tell = os.pipe()
    if os.fork() > 0:
        os.close(tell)
        status = os.read(ready, 1)
        os._exit(status[0] if status else 1)
    os.close(ready)
    os.setsid()
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    return tell
