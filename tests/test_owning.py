"""A researcher writes a proposal by hand, in their own editor, on copies of the trunk's files; nothing of it is ever lost."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from cockpit import cli
from cockpit.owning import CLAIM
from tests.test_asking_terminal import press_until
from tests.test_revising import two_waiting
from tests.test_terminal import Terminal, environment
from tests.tinylab import TinyLab, better, decide, rows, wait_for

Make = Callable[..., TinyLab]
Say = pytest.CaptureFixture[str]
BLANK = "hypothesis: \ncategory: systems\nmechanism:\nprediction:\npredicted_effect:"
HYPOTHESIS = ("hypothesis:", "hypothesis: A rate of 3 is better\n  at any width")


def own_editor(place: Path, *, claim: tuple[str, str] = HYPOTHESIS, rate: str = "3.0", more: str = "") -> str:
    """An editor that fills in the claim, its first argument, and changes the training script; a value for $EDITOR."""
    place.write_text(
        "import os, pathlib, sys\n"
        f"assert sys.argv[1] == {CLAIM!r} and './train.py' in sys.argv[2:], sys.argv\n"
        "claim, train = pathlib.Path(sys.argv[1]), pathlib.Path('train.py')\n"
        f"claim.write_text(claim.read_text().replace(*{claim!r}))\n"
        f"train.write_text(train.read_text().replace('RATE = 1.0', 'RATE = {rate}'))\n{more}\n"
    )
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(place))}"


def run(lab: TinyLab, *words: str) -> int:
    with lab.session():  # its engine is one that is stopped at the end
        pass
    return cli.main(["-C", str(lab.root), "propose", *words])


def kept(said: str) -> Path:
    found = re.search(r"kept in (\S+):", said)
    assert found is not None, said
    return Path(found[1])


def test_what_was_changed_becomes_a_proposal_that_nobody_has_approved(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say
) -> None:
    lab = tiny(more={"mix/a.toml": "code = 1\n", "mix/b.toml": "docs = 2\n"})
    more = "os.unlink('mix/a.toml'); pathlib.Path('mix/c.toml').write_text('web = 3\\n'); pathlib.Path('x.pyc').touch()"
    monkeypatch.setenv("VISUAL", own_editor(tmp_path / "editor.py", more=more))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run(lab, "--edit") == 0
    assert "added p0001: it waits for review" in capsys.readouterr().out
    with lab.session() as session:
        row = rows(session, "proposal")["p0001"]
        assert (row["state"], row["proposer"]) == ("waiting", "human")
        assert row["hypothesis"] == "A rate of 3 is better at any width"
        assert {file["path"]: file["status"] for file in row["files"]} == {
            "mix/a.toml": "D",
            "mix/c.toml": "A",
            "train.py": "M",
        }
        assert list(rows(session, "experiment")) in ([], ["trunk-1"])
        assert rows(session, "decision") == {}
        assert list(tmp_path.glob("cockpit-own-*")) == [], "what is in the queue lies nowhere else"
        assert lab.git("status", "--porcelain") == "", "and the researcher's own files are as they were"
        wait_for(lambda: rows(session, "experiment").get("trunk-1", {}).get("state") == "judged")
        decide(session, rows(session, "proposal")["p0001"])
        done = wait_for(
            lambda: (made := rows(session, "experiment").get("0001")) and made["state"] == "judged" and made
        )
        assert done["verdict"]["verdict"] == "solid"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rate": "1.0"}, "no file was changed"),
        ({"claim": ("hypothesis:", "hypothesis: ")}, "holds no hypothesis"),
        ({"claim": ("predicted_effect:", "predicted_effect: lots\nhypothesis: x")}, "twice"),
        ({"claim": (BLANK, "hypothesis: x\npredicted_effect: lots")}, "no number"),
        ({"claim": ("hypothesis: \ncategory: systems", "hypothesis: x\ncategory: magic")}, "category"),
        ({"more": "sys.exit(3)"}, "ended with code 3"),
        ({"more": "pathlib.Path('other.py').write_text('x = 1')"}, "not among the lab's editable files"),
        ({"more": "os.unlink('train.py'); os.symlink('/etc/passwd', 'train.py')"}, "no plain file"),
    ],
)
def test_what_cannot_be_queued_keeps_the_tree_says_where_and_goes_on_from_there(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say, changes: dict[str, str], says: str
) -> None:
    lab = tiny()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("EDITOR", own_editor(tmp_path / "editor.py", **changes))  # type: ignore[arg-type]
    assert run(lab, "--edit") == 1
    said = capsys.readouterr().err
    assert says in said
    tree = kept(said)
    for name in ("other.py", "train.py"):
        (tree / name).unlink(missing_ok=True)
    (tree / "train.py").write_text((lab.root / "train.py").read_text().replace("RATE = 1.0", "RATE = 2.5"))
    (tree / CLAIM).write_text("hypothesis: It gets better\n")
    assert run(lab, "--in", str(tree)) == 0
    with lab.session() as session:
        (row,) = [row for row in rows(session, "proposal").values() if row["state"] == "waiting"]
        assert row["hypothesis"] == "It gets better"
    assert not tree.exists()


def test_a_directory_of_ones_own_is_filled_changed_with_any_tool_and_handed_in(
    tiny: Make, tmp_path: Path, capsys: Say
) -> None:
    lab, place = tiny(more={"mix/blob.bin": "\0"}), tmp_path / "mine"
    assert run(lab, "--in", str(place), "--hypothesis", "A rate of 4 is better", "--category", "optimizer") == 0
    said = capsys.readouterr().out
    assert f"cockpit propose --in {place}" in said
    assert "mix/blob.bin" in said, "what could not be copied is named"
    assert sorted(path.name for path in place.iterdir()) == [".cockpit-scratch", CLAIM, "train.py"]
    assert run(lab, "--in", str(place)) == 1
    assert "no file was changed" in capsys.readouterr().err
    text = (place / "train.py").read_text()
    (place / "train.py").write_text(text.replace("RATE = 1.0", "RATE = 4.0"))
    assert run(lab, "--in", str(place)) == 0
    with lab.session() as session:
        (row,) = rows(session, "proposal").values()
        assert (row["hypothesis"], row["category"]) == ("A rate of 4 is better", "optimizer")
    assert place.is_dir(), "it is theirs"
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("precious")
    assert run(lab, "--in", str(other)) == 1
    assert "no scratch tree" in capsys.readouterr().err
    assert run(lab, "--in", str(place), "--diff", "-") == 2
    another = tiny()
    assert run(another, "--in", str(place)) == 1
    assert "of another lab" in capsys.readouterr().err


def flooding(place: Path, lab: TinyLab, then: str) -> str:
    """An editor that stays open until the engine has let go of the terminal that it was opened from, and then edits."""
    place.write_text(
        "import pathlib, sys, time\n"
        f"sys.path.insert(0, {str(Path(__file__).parent.parent)!r})\n"
        "from cockpit.attach import connect\n"
        f"root, log = pathlib.Path({str(lab.root)!r}), pathlib.Path({str(lab.state.engine_log)!r})\n"
        f"pathlib.Path({str(place.parent / 'opened')!r}).touch()\n"
        "before = log.read_text().count('reads nothing')\n"
        "session, n = connect(root, start=False), 0\n"
        "while log.read_text().count('reads nothing') == before:\n"
        "    n += 1\n"
        "    session.call('pause', why=f'{n} ' + 'x' * 60_000) if n < 40 else time.sleep(0.05)\n"
        f"session.call('resume')\n{then}"
    )
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(place))}"


EDITED = "file = pathlib.Path(sys.argv[1])\nfile.write_text(file.read_text().replace('RATE = 2.0', 'RATE = 2.5'))\n"
WRITTEN = (
    "claim, train = pathlib.Path(sys.argv[1]), pathlib.Path('train.py')\n"
    "claim.write_text(claim.read_text().replace('hypothesis:', 'hypothesis: It was written by hand'))\n"
    "train.write_text(train.read_text().replace('RATE = 1.0', 'RATE = 3.5'))\n"
)


@pytest.mark.parametrize(
    ("key", "then", "asks", "says"),
    [
        ("e", EDITED, "Edit p0001 in", "takes the place of p0001"),
        ("w", WRITTEN, "Write a proposal of your own in", "is yours: it waits for review"),
    ],
)
def test_an_editor_may_be_open_for_longer_than_the_engine_waits_for_a_client(
    tiny: Make, tmp_path: Path, key: str, then: str, asks: str, says: str
) -> None:
    lab = tiny(better(0), better(1))
    lab.start(COCKPIT_SILENCE_S="0.5")
    with lab.session() as session:
        two_waiting(session)
    command = flooding(tmp_path / "editor.py", lab, then)
    env = environment(tmp_path, EDITOR=command, XDG_RUNTIME_DIR=os.environ["XDG_RUNTIME_DIR"])
    with Terminal("-m", "cockpit.cli", "-C", str(lab.root), env=env, size=(44, 160)) as terminal:
        terminal.read_until("trunk-1")
        terminal.send("2")
        terminal.read_until("RATE = 2.0", "mechanism")
        press_until(terminal, key, asks)
        for _ in range(8):  # keys are inert for a moment after what is shown has changed
            terminal.send("\r")
            with suppress(AssertionError):
                wait_for((tmp_path / "opened").exists, 3)
                break
        terminal.read_until(says, timeout=120)
        terminal.send("\x11")
        terminal.read_until("opens this lab again")
    assert "reads nothing: it is let go" in lab.state.engine_log.read_text()
    with lab.session() as session:
        added = [row for row in rows(session, "proposal").values() if row["id"] == "p0003"]
        assert [row["state"] for row in added] == ["waiting"]
