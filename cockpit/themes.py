"""Colour themes: one validated TOML file each, turned into the styles that lines are painted with.

A theme names colours by what they mean (`good`, `added_bg`), never by where they are used. `[colors256]` replaces those that a
terminal with 256 colours would turn into grey; a terminal with 16 gets the theme `ansi`, which uses the reader's own colours.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.style import Style
from textual.theme import BUILTIN_THEMES
from textual.theme import Theme as TextualTheme

from engine.resources import shipped

FOREGROUNDS = (
    "text", "dim", "faint", "strong", "accent", "good", "bad", "warn", "run", "rule", "added", "removed", "hunk",
    "keyword", "string", "comment", "number", "name",
)  # fmt: skip
FILLS = ("background", "raised", "cursor", "added_bg", "removed_bg", "strip")
CURVES = 6
"""Colours for overlaid curves; the first is the selected run, the trunk has one of its own."""

_NAMED = re.compile(r"(default|(bright_)?(black|red|green|yellow|blue|magenta|cyan|white))\Z")
_HEX = re.compile(r"#[0-9a-fA-F]{6}\Z")
_BOLD = frozenset({"strong", "hunk"})


class ThemeError(ValueError):
    """A theme file that cannot be used; the message names the file, the key and what to write."""


@dataclass(frozen=True)
class Theme:
    """A validated theme: `colors` by meaning, `curves` in order, `trunk` the colour of the trunk's curve."""

    name: str
    dark: bool
    ansi: bool
    colors: Mapping[str, str]
    colors256: Mapping[str, str]
    curves: tuple[str, ...]
    trunk: str

    def textual(self) -> TextualTheme:
        """The part of it that Textual's style sheets see."""
        get = {key: _for_textual(value) for key, value in self.colors.items()}
        return TextualTheme(
            name=self.name,
            primary=get["accent"],
            secondary=get["dim"],
            warning=get["warn"],
            error=get["bad"],
            success=get["good"],
            accent=get["accent"],
            foreground=get["text"],
            background=get["background"],
            surface=get["background"],
            panel=get["raised"],
            dark=self.dark,
            ansi=self.ansi,
            variables=dict(BUILTIN_THEMES["ansi-dark" if self.dark else "ansi-light"].variables) if self.ansi else {},
        )


@dataclass
class Palette:
    """Styles of one theme at one colour depth. `reverse` marks themes whose cursor is the terminal's own inverse."""

    theme: Theme
    depth: str
    _styles: dict[tuple[str, str], Style] = field(default_factory=dict)

    def color(self, name: str) -> str:
        """The colour that a meaning has at this depth; `curve0`… and `trunk` included."""
        if name.startswith("curve"):
            return self.theme.curves[int(name[5:]) % len(self.theme.curves)]
        if name == "trunk":
            return self.theme.trunk
        if self.depth == "256" and name in self.theme.colors256:
            return self.theme.colors256[name]
        return self.theme.colors[name]

    def style(self, name: str, fill: str = "background") -> Style:
        """Rich style of text `name` on `fill`."""
        key = (name, fill or "background")
        style = self._styles.get(key)
        if style is None:
            style = self._styles[key] = self._make(*key)
        return style

    def _make(self, name: str, fill: str) -> Style:
        reverse = self.theme.ansi and fill == "cursor"
        return Style(
            color=self.color("text" if reverse else name or "text"),  # inverse of many colours would be a patchwork
            bgcolor=self.color("background" if reverse else fill),
            bold=name in _BOLD or None,
            reverse=True if reverse else None,
        )


def parse(text: str, file: str) -> Theme:
    """The theme in `text`; raises ThemeError naming `file` and key."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ThemeError(f"{file}: not TOML: {error}") from None
    known = {"name", "dark", "ansi", "trunk", "curves", "colors", "colors256"}
    for key in raw:
        if key not in known:
            raise ThemeError(f"{file}: {key}: unknown key; a theme has {', '.join(sorted(known))}")
    name = _typed(raw, "name", str, file)
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name):
        raise ThemeError(f"{file}: name: {name!r}; write a short name in lower-case letters, digits and hyphens")
    ansi = _typed(raw, "ansi", bool, file) if "ansi" in raw else False
    colors = _colors(_typed(raw, "colors", dict, file), "colors", file, ansi)
    for key in (*FOREGROUNDS, *FILLS):
        if key not in colors:
            raise ThemeError(f'{file}: colors.{key}: missing; write {key} = "#rrggbb"')
    curves = _typed(raw, "curves", list, file)
    if len(curves) != CURVES:
        raise ThemeError(f"{file}: curves: {len(curves)} colours; write {CURVES}")
    return Theme(
        name=name,
        dark=_typed(raw, "dark", bool, file),
        ansi=ansi,
        colors=colors,
        colors256=_colors(_typed(raw, "colors256", dict, file), "colors256", file, ansi) if "colors256" in raw else {},
        curves=tuple(_color(each, f"curves[{index}]", file, ansi) for index, each in enumerate(curves)),
        trunk=_color(raw.get("trunk"), "trunk", file, ansi),
    )


def load_all() -> tuple[dict[str, Theme], list[str]]:
    """Shipped themes and the reader's own (`~/.config/cockpit/themes/*.toml`), and a sentence for each bad file."""
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    themes: dict[str, Theme] = {}
    problems: list[str] = []
    for folder in (shipped("themes"), base / "cockpit" / "themes"):
        for path in sorted(folder.glob("*.toml")) if folder.is_dir() else ():
            try:
                theme = parse(path.read_text(encoding="utf-8"), str(path))
                themes[theme.name] = theme
            except (ThemeError, OSError, UnicodeDecodeError) as error:
                problems.append(str(error))
    return themes, problems


def choose(themes: Mapping[str, Theme], wanted: str | None, depth: str | None) -> Theme:
    """The theme asked for; else `ansi` where there are 16 colours only, else `dusk`."""
    if wanted and wanted in themes:
        return themes[wanted]
    default = "dusk" if depth in ("truecolor", "256") else "ansi"
    return themes.get(default) or next(iter(themes.values()))


def _typed(raw: Mapping[str, Any], key: str, kind: type[Any], file: str) -> Any:
    value = raw.get(key)
    if not isinstance(value, kind):
        words = {str: "text", bool: "true or false", dict: "a table", list: "a list"}
        raise ThemeError(f"{file}: {key}: {'missing' if value is None else repr(value)}; write {words[kind]}")
    return value


def _colors(raw: Mapping[str, Any], table: str, file: str, ansi: bool) -> dict[str, str]:
    for key in raw:
        if key not in FOREGROUNDS and key not in FILLS:
            raise ThemeError(f"{file}: {table}.{key}: unknown colour; known are {', '.join((*FOREGROUNDS, *FILLS))}")
    return {key: _color(value, f"{table}.{key}", file, ansi) for key, value in raw.items()}


def _color(value: Any, key: str, file: str, ansi: bool) -> str:
    pattern, example = (_NAMED, "bright_blue, default") if ansi else (_HEX, "#7aa2c8")
    if not isinstance(value, str) or not pattern.match(value):
        raise ThemeError(f"{file}: {key}: {value!r} is not a colour; write one like {example}")
    return value.lower()


def _for_textual(color: str) -> str:
    return color if color.startswith("#") else f"ansi_{color}"
