"""A proposal in the person's own editor: in a scratch file outside the lab, which stays until its text is in the queue."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

HEAD = """\
# Save and close, and this takes the place of {proposal}, with you as its co-author. Each SEARCH must stand in the trunk's file
# as it is; change what comes after =======, add blocks, or change the claims. Closed unchanged, it queues nothing.

"""


class NotEdited(Exception):
    """The editor brought no text to queue; the message says why, and where the text lies."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """The file that a proposal is edited in; `before` is what was in it at first."""

    proposal: str
    diff_hash: str | None
    path: Path
    before: str

    def text(self) -> str:
        """What the person made of it. Raises NotEdited when they left it as it was."""
        try:
            found = self.path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise NotEdited(f"{self.path} cannot be read: {error}") from None
        if found.strip() in ("", self.before.strip()):
            self.drop()
            raise NotEdited(f"{self.proposal} was left as it is: nothing was queued")
        return found.removeprefix(HEAD.format(proposal=self.proposal))

    def drop(self) -> None:
        """Remove it: its text is in the queue, or there is nothing in it that was not there before."""
        self.path.unlink(missing_ok=True)
        try:
            self.path.parent.rmdir()
        except OSError:  # the editor left something of its own
            return


def scratch(proposal: str, diff_hash: str | None, source: str) -> Scratch:
    """A new scratch file, for this person's eyes only, with the reply that the proposal was drawn from."""
    path = Path(tempfile.mkdtemp(prefix=f"cockpit-{proposal}-")) / f"{proposal}.md"
    before = HEAD.format(proposal=proposal) + source
    path.write_text(before, "utf-8")
    return Scratch(proposal, diff_hash, path, before)


def editor() -> list[str]:
    """The person's editor as a command: $VISUAL, else $EDITOR, else vi."""
    wanted = os.environ.get("VISUAL", "").strip() or os.environ.get("EDITOR", "").strip()
    try:
        return shlex.split(wanted) or ["vi"]
    except ValueError:
        return [wanted]


def run_editor(file: Scratch) -> str:
    """Open the editor on this terminal and wait for its end; the new text. Raises NotEdited; then the file is kept."""
    command = [*editor(), str(file.path)]
    try:
        code = subprocess.run(command, check=False).returncode
    except OSError as error:
        raise NotEdited(
            f"{command[0]} cannot be run ({error.strerror}): set $EDITOR; the text is in {file.path}"
        ) from None
    if code != 0:
        raise NotEdited(f"{command[0]} ended with code {code}: nothing was queued; the text is in {file.path}")
    return file.text()
