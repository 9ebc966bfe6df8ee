"""Themes are files that anybody may write: each is checked, and a bad one says which file, which key, and what to write."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.color import Color, ColorSystem

from cockpit.themes import CURVES, FILLS, FOREGROUNDS, Palette, ThemeError, choose, load_all, parse
from engine.resources import shipped

DUSK = (shipped("themes") / "dusk.toml").read_text()


def test_every_shipped_theme_is_valid() -> None:
    themes, problems = load_all()
    assert problems == []
    assert {"dusk", "paper", "signal", "ansi"} <= set(themes)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('accent = "#e8b56a"', 'accent = "orange"'), "colors.accent"),
        (('good = "#7fc08a"', ""), "colors.good: missing"),
        (("dark = true", "dark = 1"), "dark"),
        (('name = "dusk"', 'name = "Dusk!"'), "name"),
        (('"#5fc4b4"]', "]"), "curves"),
        (("[colors]", "[colours]"), "colours: unknown key"),
        (("[colors]", "[colors"), "not TOML"),
        (('rule = "#2e343f"', 'ruel = "#2e343f"'), "colors.ruel: unknown colour"),
    ],
)
def test_a_bad_theme_names_file_and_key(change: tuple[str, str], says: str) -> None:
    assert change[0] in DUSK
    with pytest.raises(ThemeError) as caught:
        parse(DUSK.replace(*change, 1), "mine.toml")
    assert "mine.toml" in str(caught.value)
    assert says in str(caught.value)


def test_a_reader_s_own_theme_is_found_and_a_broken_one_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "cockpit" / "themes"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text(DUSK.replace('name = "dusk"', 'name = "mine"'))
    (folder / "bad.toml").write_text("name = 3")
    themes, problems = load_all()
    assert "mine" in themes
    assert len(problems) == 1
    assert "bad.toml" in problems[0]


def test_sixteen_colours_get_the_reader_s_own() -> None:
    themes, _ = load_all()
    assert choose(themes, None, "16").name == "ansi"
    assert choose(themes, None, "256").name == "dusk"
    assert choose(themes, "paper", "16").name == "paper"


def _xterm(color: str) -> tuple[int, int, int]:
    down = Color.parse(color).downgrade(ColorSystem.EIGHT_BIT)
    triplet = down.get_truecolor()
    return triplet.red, triplet.green, triplet.blue


def test_diff_backgrounds_survive_256_colours() -> None:
    """Dark greens and reds would otherwise become the same black or grey."""
    themes, _ = load_all()
    for theme in themes.values():
        if theme.ansi:
            continue
        palette = Palette(theme, "256")
        added, removed, plain = (_xterm(palette.color(name)) for name in ("added_bg", "removed_bg", "background"))
        assert len({added, removed, plain}) == 3, theme.name
        assert len(set(added)) > 1, f"{theme.name}: added lines are grey"
        assert len(set(removed)) > 1, f"{theme.name}: removed lines are grey"


def _luminance(color: str) -> float:
    def linear(part: int) -> float:
        share = part / 255
        return share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4

    triplet = Color.parse(color).get_truecolor()
    return 0.2126 * linear(triplet.red) + 0.7152 * linear(triplet.green) + 0.0722 * linear(triplet.blue)


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("depth", ["truecolor", "256"])
def test_text_can_be_read_on_every_fill_it_stands_on(depth: str) -> None:
    themes, _ = load_all()
    for theme in themes.values():
        if theme.ansi:
            continue
        palette = Palette(theme, depth)
        for name in ("text", "strong", "accent", "good", "bad", "warn", "run", "added", "removed"):
            assert _contrast(palette.color(name), palette.color("background")) >= 4.5, (theme.name, depth, name)
        for name in ("dim", "keyword", "string", "number", "name", "hunk", "comment"):
            assert _contrast(palette.color(name), palette.color("background")) >= 3.6, (theme.name, depth, name)
        for fill, names in (
            ("added_bg", ("added", "keyword", "name")),
            ("removed_bg", ("removed",)),
            ("cursor", ("text",)),
        ):
            for name in names:
                assert _contrast(palette.color(name), palette.color(fill)) >= 3.0, (theme.name, depth, name, fill)


def test_every_meaning_has_a_style_on_every_fill() -> None:
    themes, _ = load_all()
    for theme in themes.values():
        for depth in ("truecolor", "256", "16"):
            palette = Palette(theme, depth)
            names = [*FOREGROUNDS, *(f"curve{number}" for number in range(CURVES)), "trunk"]
            for name in names:
                for fill in FILLS:
                    assert palette.style(name, fill).bgcolor is not None
