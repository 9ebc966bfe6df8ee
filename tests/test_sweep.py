"""The control arm: real diffs with no model, in the files' own words, the same for the same seed, following what helped."""

from __future__ import annotations

import ast
import json
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.edits import apply, parse
from engine.novelty import change_class
from engine.proposers.base import ProposerError, Tried
from engine.proposers.constants import sites, turned
from engine.proposers.sweep import Sweep, draw, turns_in
from engine.types import Change
from tests.desks import FakeDesk, hear
from tests.tinylab import TinyLab, decide, rows, wait_for, waiting

Make = Callable[..., TinyLab]
NANOLM = Path(__file__).parents[1] / "sample_runs/nanolm"
LAB = {name: (NANOLM / name).read_bytes() for name in ("train.py", "mix.toml")}

TOML = b"""\
# what is read
[weights]   # relative
code = 1.0   # most of it
"docs" = 2
on = true
name = "a"
list = [1, 2]
text = '''
code = 5
'''
[select.code]
keep_share = 0.95
"""
JSON = b'{\n  "rate": 0.001,  "layers": 2,\n  "inner": {"tied": false, "seed": 3, "said": "rate: 1"}\n}\n'
YAML = b"# c\nrate: 0.001  # peak\nmodel:\n  width: 64\n  tied: true\n  name: gpt\n"
PYTHON = """\
from typing import Literal

width = 64  # é: not one byte a character
act: Literal["gelu", "relu"] = "gelu"
seed = 3
size = {"é": 1}; rate = 1e-3


def f(x, drop=0.1, *, kind='a', dim=2):
    if kind in ("a", "b"):
        return g(x, gain=2.0, axis=1)
    return -1
""".encode()


def found(path: str, data: bytes) -> dict[str, object]:
    return {site.name: site.value for site in sites(path, data)}


def test_constants_are_found_by_position_and_what_is_not_a_setting_is_left_alone() -> None:
    assert found("m.py", PYTHON) == {
        "width": 64,
        "act": "gelu",
        "rate": 0.001,
        "f.drop": 0.1,
        "f.kind": "a",
        "f.g().gain": 2.0,
    }
    assert found("m.toml", TOML) == {
        "weights.code": 1.0,
        'weights."docs"': 2,
        "weights.on": True,
        "select.code.keep_share": 0.95,
    }
    assert list(found("m.json", JSON).values()) == [0.001, 2, False]
    assert found("m.yaml", YAML) == {"rate": 0.001, "width": 64, "tied": True}
    assert sites("m.py", b"x = (") == sites("m.txt", b"x = 1") == ()


def test_turning_one_changes_its_bytes_and_nothing_else() -> None:
    for path, data in (("m.py", PYTHON), ("m.toml", TOML), ("m.json", JSON), ("m.yaml", YAML), *LAB.items()):
        for site in sites(path, data):
            value = (
                {"gelu": "relu", "a": "b"}.get(site.value, site.value) if isinstance(site.value, str) else site.value
            )
            value = (not value) if isinstance(value, bool) else value if isinstance(value, str) else value + 1
            new = turned(data, site, value)
            assert (new[: site.start], new[len(new) - len(data) + site.end :]) == (data[: site.start], data[site.end :])
            read = {"py": ast.parse, "toml": lambda raw: tomllib.loads(raw.decode()), "json": json.loads}.get(
                path.rpartition(".")[2]
            )
            if read is not None:
                read(new)


def test_every_draw_is_a_diff_that_applies_and_only_tunes_and_none_comes_twice() -> None:
    past: list[Tried] = []
    seen = set()
    for _ in range(60):
        drawn = draw(LAB, past, 7)
        assert drawn is not None
        mechanism, text = drawn
        after = apply(parse(text), LAB.get, lambda _: True, lambda _: False)
        assert change_class({path: LAB[path] for path in after}, after) == Change.CONSTANTS
        assert parse(text).hypothesis.startswith("Sweep: ")
        key = tuple(sorted((path, data) for path, data in after.items() if data))
        assert key not in seen
        seen.add(key)
        past.append(Tried(mechanism, None, None))


async def test_a_seed_gives_the_same_proposals_and_a_restart_goes_on_where_it_was() -> None:
    async def some(seed: int, past: tuple[Tried, ...], count: int) -> list[str]:
        desk = FakeDesk(files=LAB)
        desk.past = past
        out = []
        async for said in Sweep(seed).propose(desk):
            out.append(said.reply.text)  # type: ignore[union-attr]
            if len(out) == count:
                break
        return out

    whole = await some(1, (), 8)
    assert whole == await some(1, (), 8)
    assert whole != await some(2, (), 8)
    before = tuple(Tried(parse(text).mechanism, None, None) for text in whole[:5])
    assert await some(1, before, 3) == whole[5:]


async def test_a_lab_without_constants_ends_the_sweep() -> None:
    heard = await hear(Sweep(0), FakeDesk(files={"a.py": b"print('x')\n"}))
    assert heard.said == []


async def test_a_lab_with_one_constant_is_swept_to_its_end() -> None:
    heard = await hear(Sweep(0), FakeDesk(files={"a.py": b"rate = 1.0\n"}))
    assert 3 <= len(heard.replies) <= 6
    assert len(set(heard.replies)) == len(heard.replies)


# --- by Optuna ------------------------------------------------------------------------------------------------------------


def gain(mechanism: str) -> float:
    """A lab in which one constant matters: the nearer `rate` is to 4, the better."""
    (turn,) = turns_in(mechanism)
    return 1.0 - abs(float(turn.new) - 4.0) if turn.name == "rate" else -1.0


def test_optuna_draws_the_same_for_the_same_seed_and_history_whenever_the_engine_was_restarted() -> None:
    def campaign(seed: int, forget_at: int | None = None) -> list[str]:
        past: list[Tried] = []
        for n in range(10):
            if n == forget_at:  # all that a new engine knows is what the ledger says
                past = [Tried(str(each.mechanism), each.effect, each.verdict) for each in past]
            drawn = draw(LAB, past, seed, "optuna")
            assert drawn is not None
            after = apply(parse(drawn[1]), LAB.get, lambda _: True, lambda _: False)
            assert change_class({path: LAB[path] for path in after}, after) == Change.CONSTANTS
            assert len(turns_in(drawn[0])) == 1
            past.append(Tried(drawn[0], *[(None, None), (0.1, "solid"), (None, "broken")][n % 3]))
        return [each.mechanism for each in past]

    whole = campaign(1)
    assert whole == campaign(1, forget_at=6)
    assert whole != campaign(2)
    assert len(set(whole)) == len(whole)
    assert all(each.startswith("a sweep without a model, drawn by Optuna: ") for each in whole)


def test_optuna_goes_where_it_got_better_and_away_from_what_broke() -> None:
    files = {"a.py": b"rate = 1.5\nwidth = 8\ndepth = 4\ndecay = 0.1\nsquared = True\n"}
    past: list[Tried] = []
    for _ in range(40):
        drawn = draw(files, past, 5, "optuna")
        assert drawn is not None
        (turn,) = turns_in(drawn[0])
        broke = turn.name == "depth"
        past.append(Tried(drawn[0], None if broke else gain(drawn[0]), "broken" if broke else "solid"))
    late = [turns_in(each.mechanism)[0] for each in past[20:]]
    rates = [float(turn.new) for turn in late if turn.name == "rate"]
    assert len(rates) > len(late) / 2, "one constant of five matters, and it is found"
    assert sum(3.0 <= each <= 5.0 for each in rates) > len(rates) / 2
    assert sum(turn.name == "depth" for turn in late) <= 4


async def test_without_optuna_the_proposer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ProposerError, match=r"pip install 'research-cockpit\[optuna\]'"):
        await hear(Sweep(0, "optuna"), FakeDesk(files=LAB))


def test_an_engine_draws_by_optuna_and_goes_on_after_a_restart(tiny: Make) -> None:
    lab = tiny(queue=2)
    path = lab.root / "cockpit.toml"
    path.write_text(path.read_text().replace('kind = "recording"', 'kind = "sweep"\nseed = 4\nsearch = "optuna"'))
    lab.git("commit", "-qam", "Sweep")
    with lab.session() as session:
        first, second = wait_for(lambda: len(found := waiting(session)) == 2 and found)
        assert "drawn by Optuna" in first["mechanism"]
    lab.stop()
    with lab.session() as session:
        decide(session, first, "decline", "no")
        third = wait_for(lambda: next((row for row in waiting(session) if row["id"] == "p0003"), None))
    files = {"train.py": (lab.root / "train.py").read_bytes()}
    expected = draw(files, [Tried(row["mechanism"], None, None) for row in (first, second)], 4, "optuna")
    assert expected is not None
    assert third["mechanism"] == expected[0]


def test_after_random_draws_half_go_on_from_what_helped() -> None:
    helped = "a sweep without a model, drawn at random: train.py:Config.rate from 0.0005 to 0.001"
    past = [Tried(helped, 0.1, "solid")] + [Tried(f"no {n}", -0.1, "harmful") for n in range(9)]
    names: list[str] = []
    for _ in range(40):
        drawn = draw(LAB, past, 3)
        assert drawn is not None
        names += [turn.name for turn in turns_in(drawn[0])] if "what helped" in drawn[0] else []
        past.append(Tried("none: " + str(len(past)), -0.1, "harmful"))
    assert 10 <= len(names) <= 30
    assert set(names) == {"Config.rate"}


def test_a_campaign_by_sweep_is_labelled_so_that_sql_can_compare_proposers(tiny: Make) -> None:
    lab = tiny(queue=2)
    path = lab.root / "cockpit.toml"
    path.write_text(path.read_text().replace('kind = "recording"', 'kind = "sweep"\nseed = 4'))
    lab.git("commit", "-qam", "Sweep")
    with lab.session() as session:
        for row in wait_for(lambda: len(found := waiting(session)) == 2 and found):
            assert row["proposer"] == "sweep"
            assert row["origin"].startswith("sweep, seed 4, draw ")
            assert row["mechanism"].startswith("a sweep without a model")
            decide(session, row)
        wait_for(lambda: all(rows(session, "experiment").get(n, {}).get("state") == "judged" for n in ("0001", "0002")))
        table = session.call("sql", text="SELECT proposer, change, count(*) FROM leaderboard l JOIN proposals p USING "
                             "(proposer) WHERE p.experiment = l.experiment GROUP BY ALL")  # fmt: skip
        assert table["rows"] == [["sweep", "constant-only", 2]]
        wait_for(lambda: len(waiting(session)) == 2)
