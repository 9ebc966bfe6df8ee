"""What `cockpit doctor` looks at outside the lab: Python, git, terminal, isolation, key. Nothing secret is ever shown."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.shards.sandbox import Probe, probe
from engine.text import clean

GIT_NEEDED = (2, 38)
PYTHON_NEEDED = (3, 11)
TMUX_NEEDED = (3, 2)
_SECRET_NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `fix` says what to do; where the state is "ok" it is a hint, or empty."""

    name: str
    state: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""


def answer(
    argv: Sequence[str], env: Mapping[str, str], cwd: Path | None = None, timeout_s: float = 10.0
) -> tuple[int, str]:
    """(exit code, what it said) of a command that gets no secret of this environment; code 127 when it cannot start."""
    safe = {name: value for name, value in env.items() if not _SECRET_NAMES.search(name)}
    try:
        done = subprocess.run(
            list(argv), cwd=cwd, env=safe, capture_output=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return 124, f"no answer within {timeout_s:.0f} s"
    except (OSError, ValueError) as error:
        return 127, getattr(error, "strerror", None) or str(error)
    said = done.stdout if done.returncode == 0 else done.stdout + done.stderr
    return done.returncode, said.decode("utf-8", "replace").strip()


def version(text: str) -> tuple[int, int] | None:
    """The first `major.minor` in a text."""
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def machine(env: Mapping[str, str]) -> Iterator[Check]:
    """Checks that need no lab."""
    yield _python()
    yield git(*answer(["git", "--version"], env))
    yield isolation(probe())
    yield key(env)
    yield from terminal(env)


def _python() -> Check:
    here = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < PYTHON_NEEDED:
        return Check("python", "fail", f"{here} runs the cockpit", "install it with Python 3.11 or newer")
    return Check("python", "ok", f"{here} at {sys.executable}")


def git(code: int, said: str) -> Check:
    """What `git --version` answered."""
    found = version(said) if code == 0 else None
    if found is None:
        return Check("git", "fail", f"git does not answer: {clean(said[:200])}", "install git 2.38 or newer")
    if found < GIT_NEEDED:
        return Check("git", "fail", f"{said} cannot merge without a work tree", "install git 2.38 or newer")
    return Check("git", "ok", said.splitlines()[0])


def isolation(found: Probe) -> Check:
    """How well a shard is kept from the rest of the machine, as a box that was tried showed."""
    missing = "; ".join(found.reasons)
    if found.level == 3:
        return Check("isolation", "ok", "box 3: bubblewrap and seccomp; tried, and it holds")
    if found.level == 2:
        return Check(
            "isolation", "warn", "box 2: landlock and seccomp; docs/isolation.md says what it leaves open", missing
        )
    fix = f"approve only diffs that you have read; for a box: {missing}"
    return Check("isolation", "warn", "limits only: a shard runs as you and is not boxed", fix)


def key(env: Mapping[str, str]) -> Check:
    """Whether an API key is set; its value is never looked at further."""
    if env.get("ANTHROPIC_API_KEY"):
        return Check("api key", "ok", "ANTHROPIC_API_KEY is set (not shown); it never reaches a shard")
    fix = "export ANTHROPIC_API_KEY to let Claude propose; recorded proposals and your own need none"
    return Check("api key", "warn", "ANTHROPIC_API_KEY is not set", fix)


def terminal(env: Mapping[str, str]) -> Iterator[Check]:
    """What the screen can show: terminal type, colours, character set, tmux, SSH."""
    name = clean(env.get("TERM", ""))
    if name in ("", "dumb", "unknown"):
        yield Check(
            "terminal", "warn", f"TERM is {name!r}", "the commands work; for the screen set TERM, e.g. xterm-256color"
        )
    else:
        yield Check("terminal", "ok", f"TERM={name}")
    if env.get("COLORTERM") in ("truecolor", "24bit"):
        yield Check("colours", "ok", "16 million")
    else:
        shown = "256" if "256" in name else "16"
        fix = "ssh and tmux do not forward COLORTERM; where the terminal can: export COLORTERM=truecolor"
        yield Check("colours", "ok" if shown == "256" else "warn", f"{shown} (COLORTERM is not set)", fix)
    yield _locale(env)
    if env.get("TMUX"):
        yield tmux(answer(["tmux", "-V"], env)[1], answer(["tmux", "show-options", "-sv", "set-clipboard"], env)[1])
    if env.get("SSH_CONNECTION") or env.get("SSH_TTY"):
        fix = "on a slow line use `ssh -C`, and set ESCDELAY=500 so that split arrow keys stay arrow keys"
        multiplexed = env.get("TMUX") or env.get("STY")
        detail = "this is an SSH session; runs outlive it" + (
            "" if multiplexed else ", the screen does not (tmux would)"
        )
        yield Check("ssh", "ok", detail, fix)


def _locale(env: Mapping[str, str]) -> Check:
    name = clean(env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or "")
    if re.search(r"utf-?8", name, re.IGNORECASE):
        return Check("character set", "ok", name)
    detail = f"the locale is {name!r}, not UTF-8: curves and rules may show as question marks"
    return Check("character set", "warn", detail, "export LC_ALL=C.UTF-8")


def tmux(said: str, clipboard: str) -> Check:
    """Whether copying out of the cockpit reaches the terminal through this tmux."""
    found = version(said)
    if found is None:
        return Check("tmux", "warn", "TMUX is set but tmux does not answer", "copied text goes to a file only")
    if found < TMUX_NEEDED:
        return Check(
            "tmux", "warn", f"{said} cannot hand copied text on", "tmux 3.2 or newer; else use the file it names"
        )
    if clipboard == "off":
        return Check(
            "tmux", "warn", f"{said}, set-clipboard off: copied text stays in tmux", "tmux set -s set-clipboard on"
        )
    return Check("tmux", "ok", f"{said}, set-clipboard {clipboard or 'unknown'}")
