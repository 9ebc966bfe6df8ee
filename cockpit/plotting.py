"""Which picture an answer is drawn as: what a person or a header says (`scatter predicted measured`), or a guess. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.text import clean_line

from .axes import column
from .drawing import KINDS, NoPicture, picture_text


@dataclass(frozen=True, slots=True)
class Choice:
    """A kind of picture and the numbers of its columns, 0 the first; of bars `x` is the label and `y` the length."""

    kind: str
    x: int
    y: int
    series: int | None = None


def choose(words: Sequence[str], columns: Sequence[str]) -> Choice:
    """What these words ask for: `scatter x y`, `lines x y [series]`, `steps x y [series]` or `bars label value`, each column by
    its name or its number from 1 on. Raises NoPicture, which says what to write."""
    kinds = "scatter X Y, lines X Y [SERIES], steps X Y [SERIES] or bars LABEL VALUE"
    if not words or words[0] not in KINDS:
        raise NoPicture(f"write {kinds}, with names of columns")
    most = 3 if words[0] == "bars" else 4
    if not 3 <= len(words) <= most:
        raise NoPicture(
            f"{words[0]} takes {'two columns' if most == 3 else 'two columns, and one for series'}: write {kinds}"
        )
    x, y, *series = (_column(word, columns) for word in words[1:])
    return Choice(words[0], x, y, series[0] if series else None)


def _column(word: str, columns: Sequence[str]) -> int:
    if word in columns:
        return list(columns).index(word)
    if word.isdecimal() and 1 <= int(word) <= len(columns):
        return int(word) - 1
    raise NoPicture(f"there is no column {clean_line(word)}: there are {', '.join(map(clean_line, columns))}")


def words_of(header: Mapping[str, object] | None) -> list[str]:
    """The words for what a question's header says of its picture, as the engine answers it; none where it says nothing."""
    axes = ("kind", "x", "label", "y", "value", "series")
    return [str(header[name]) for name in axes if header.get(name) is not None] if header else []


def guess(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Choice | None:
    """A picture for an answer of which nothing is said: numbers over times or steps, else a number for each name, else the
    first two columns of numbers against each other; None where no column holds numbers."""
    found = [column([row[at] if at < len(row) else None for row in rows]) for at in range(len(columns))]
    numbers = [at for at, each in enumerate(found) if each.kind == "number" and each.known]
    times = [at for at, each in enumerate(found) if each.kind == "time"]
    names = [at for at, each in enumerate(found) if each.kind == "name"]
    if not numbers:
        return None
    if times:
        return Choice("lines", times[0], numbers[0])
    steps = [at for at in numbers if columns[at] in ("step", "tokens")]
    if steps and (values := [at for at in numbers if at not in steps]):
        return Choice("lines", steps[0], values[0])
    if names:
        return Choice("bars", names[0], numbers[0])
    if len(numbers) < 2:
        return None
    return Choice("scatter", numbers[0], numbers[1])


def plot_text(
    words: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[object]], width: int = 80, height: int = 24
) -> str:
    """An answer as a picture without colours, as the words ask for, or as guessed where there are none. Raises NoPicture."""
    choice = choose(words, columns) if words else guess(columns, rows)
    if choice is None:
        raise NoPicture("no two columns of this answer make a picture: choose some, as in `scatter X Y`")
    return picture_text(choice.kind, columns, rows, choice.x, choice.y, choice.series, width, height)
