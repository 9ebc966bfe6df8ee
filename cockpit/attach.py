"""Finding a lab, starting its engine when none runs, and talking to it: blocking, for the command line.

The standard library only; the terminal's own client (`cockpit.client`) shares the finding and the starting.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from engine import rpc
from engine.paths import CONFIG, StateDir, find_lab
from engine.shards.alone import is_held
from engine.shards.spec import is_secret
from engine.types import PROTOCOL

START_S = 30.0


class NotALab(Exception):
    """There is no lab here; the message says how to make one."""


class EngineDown(Exception):
    """No engine answers; the message says why, and what to do."""


def lab_here(start: Path) -> Path:
    """The lab at or above `start`. Raises NotALab."""
    root = find_lab(start)
    if root is None:
        raise NotALab(
            f"no {CONFIG} in {start.resolve()} or above: run `cockpit init` in your training repository, or `cockpit demo`"
        )
    return root


def state_dir(root: Path) -> StateDir:
    """Where the lab keeps its state. Only this one key is read here; the engine validates the file."""
    wanted: object = None
    with suppress(OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        wanted = tomllib.loads((root / CONFIG).read_text("utf-8")).get("store", {}).get("state_dir")
    place = Path(os.path.expanduser(wanted)) if isinstance(wanted, str) and wanted else Path(".cockpit")
    return StateDir(root / place)


def is_running(state: StateDir) -> bool:
    """Whether an engine on this machine holds the lab's lock."""
    return is_held(state.engine_lock)


def own_key() -> dict[str, str]:
    """What this shell has for the Messages API, as the engine's method `key` takes it; empty when it has no key."""
    key = os.environ.get("ANTHROPIC_API_KEY", "").strip()
    return {"key": key, "base_url": os.environ.get("ANTHROPIC_BASE_URL", "")} if key else {}


def spawn(root: Path, state: StateDir) -> subprocess.Popen[bytes]:
    """Start the lab's engine, detached. What it says before its log is open goes to `engine.start`."""
    state.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(state.root / "engine.start", "wb") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.daemon", str(root)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            # runs of this user can read the environment of this process: a client hands keys over when they are needed
            env={name: value for name, value in os.environ.items() if not is_secret(name)},
            start_new_session=True,
        )


def start_failure(state: StateDir) -> str:
    """Why an engine that was just started ended again."""
    with suppress(OSError):
        said = (state.root / "engine.start").read_text("utf-8", "replace").strip()
        if said:
            return said
    return f"the engine ended without a word; see {state.engine_log}"


class Session:
    """One connection to a running engine. Not thread-safe."""

    def __init__(self, state: StateDir) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(str(state.socket))
            self._file = self._socket.makefile("rb")
            self._number = 0
            token = state.token.read_text().strip()
            self.hello = self.call("hello", token=token, client=f"cli {os.getpid()}", protocol=PROTOCOL)
        except BaseException:
            self._socket.close()
            raise

    def call(self, method: str, **params: Any) -> Any:
        """The result of one request. Raises RpcError, and EngineDown when the connection breaks."""
        self._number += 1
        try:
            self._socket.sendall(rpc.request(self._number, method, params))
            while True:
                line = self._file.readline(rpc.MAX_MESSAGE + 1)
                if not line:
                    raise EngineDown("the engine went away in the middle; `cockpit status` tells whether it is back")
                message = rpc.decode(line)
                if "error" in message and message.get("id") in (self._number, None):
                    error = message["error"]
                    raise rpc.RpcError(error["code"], error["message"], error.get("data"))
                if message.get("id") == self._number:
                    return message["result"]
        except OSError as error:
            raise EngineDown(f"the engine went away: {error}") from None

    def rows(self, since: int = 0) -> tuple[list[dict[str, Any]], int]:
        """All rows that changed after event `since`, and the number of the last event."""
        rows: list[dict[str, Any]] = []
        while True:
            page = self.call("pull", since=since)
            rows += page["rows"]
            since = page["next"]
            if since >= page["head"]:
                return rows, since

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@contextmanager
def attached(root: Path, *, start: bool = True) -> Iterator[Session]:
    """A session with the lab's engine, which is started when `start` is true and none runs. Raises EngineDown."""
    session = connect(root, start=start)
    try:
        yield session
    finally:
        session.close()


def connect(root: Path, *, start: bool = True) -> Session:
    """See `attached`; the caller closes it."""
    state = state_dir(root)
    process: subprocess.Popen[bytes] | None = None
    deadline = time.monotonic() + START_S
    pause = 0.02
    while True:
        try:
            return Session(state)
        except (OSError, rpc.RpcError, EngineDown) as error:
            if isinstance(error, rpc.RpcError) and error.code == rpc.WRONG_PROTOCOL:
                raise EngineDown(error.message) from None
            running = is_running(state)
            if process is not None and process.poll() is not None and not running:
                raise EngineDown(start_failure(state)) from None
            if not running and process is None:
                if not start:
                    raise EngineDown("no engine runs for this lab: `cockpit up` starts it") from None
                process = spawn(root, state)
            if time.monotonic() > deadline:
                raise EngineDown(f"the engine does not answer ({error}); see {state.engine_log}") from None
        time.sleep(pause)
        pause = min(0.25, pause * 1.5)
