"""The review queue, and what stands above a diff: claim, size, risks, and what is known that bears on the decision."""

from __future__ import annotations

from collections.abc import Container, Sequence

from engine.text import disguised
from engine.types import ProposalRow

from .. import format as f
from ..model import ReadModel
from ..summary import asked_cost, broke_at_smoke, cost, past_of_category, trunk_noise
from .lines import Line, Lines, Span
from .second_reader import risks

STATES: dict[str, tuple[str, str]] = {
    "waiting": ("✎", "warn"),
    "refused": ("✗", "bad"),
    "declined": ("–", "dim"),
    "approved": ("✓", "good"),
    "revised": ("↻", "dim"),
}


def size_of(row: ProposalRow) -> str:
    """`+12 −3` over all files."""
    return f"+{sum(file['added'] for file in row['files'])} −{sum(file['removed'] for file in row['files'])}"


def queue_line(row: ProposalRow, width: int, *, marked: bool = False) -> Line:
    """One proposal: glyph, id, hypothesis, and at the right its size or why it is not waiting."""
    sign, colour = STATES.get(row["state"], ("?", "dim"))
    note = {"waiting": size_of(row), "refused": row["refusal"] or "refused"}.get(row["state"], row["state"])
    flag = "!" if row["risks"] and row["state"] == "waiting" else " "
    room = max(width - 12 - f.width_of(note), 8)
    body = "text" if row["state"] == "waiting" else "dim"
    return Line(
        (
            ("▌" if marked else " ", "accent"),
            (sign, colour),
            (flag, "bad"),
            (f.fit(row["id"], 6), "strong" if row["state"] == "waiting" else "dim"),
            (" " + f.fit(row["hypothesis"] or "(no hypothesis)", room), body),
            (" " + note, colour if row["state"] != "waiting" else "faint"),
        )
    )


class Queue(Lines):
    """The list of proposals; the cursor is an id, so that it stays on its row whatever the order does."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows: list[ProposalRow] = []
        self.cursor: str | None = None
        self.top = 0

    @property
    def current(self) -> ProposalRow | None:
        """The row under the cursor."""
        return next((row for row in self.rows if row["id"] == self.cursor), None)

    def set_rows(self, rows: Sequence[ProposalRow]) -> None:
        """Take a new order; without a cursor yet the first row gets it."""
        self.rows = list(rows)
        if self.current is None:
            self.cursor = self.rows[0]["id"] if self.rows else None

    @property
    def index(self) -> int:
        return next((at for at, row in enumerate(self.rows) if row["id"] == self.cursor), 0)

    def move(self, by: int) -> None:
        """Move the cursor by so many rows."""
        if self.rows:
            self.cursor = self.rows[min(max(self.index + by, 0), len(self.rows) - 1)]["id"]

    def redraw(self, head: Line, marked: Container[str] = ()) -> None:
        """Show the visible part under its head, scrolled by half pages; `marked` ones bear a sign."""
        page = max(self.size.height - 1, 1)
        where = self.index
        if where < self.top or where >= self.top + page:
            self.top = max(where - page // 2, 0)
        self.top = min(self.top, max(len(self.rows) - page, 0))
        lines = [head]
        for row in self.rows[self.top : self.top + page]:
            made = queue_line(row, self.size.width, marked=row["id"] in marked)
            lines.append(made.on("cursor") if row["id"] == self.cursor else made)
        self.show(lines)


def claim(model: ReadModel, row: ProposalRow, diff: str | None, width: int, note: str | None) -> list[Line]:
    """What stands above the diff of one proposal, most urgent first: its fate, its claim, its risks, the evidence."""
    inner = max(min(width - 2, 110), 20)
    lines: list[Line] = [Line(((each, "strong"),)) for each in f.wrap(row["hypothesis"] or "(no hypothesis)", inner, 3)]
    lines.append(_identity(row))
    lines += _fate(model, row, inner)
    lines += _broke(model, row, inner)
    if note:
        lines.append(Line(((note, "warn"),)))
    lines.append(Line())
    lines += _labelled("mechanism", row["mechanism"], inner)
    lines += _labelled("prediction", row["prediction"], inner)
    lines += _labelled("effect", _predicted(model, row), inner)
    lines += _labelled("class", row.get("change", ""), inner)
    if diff is not None and (hidden := disguised(diff)):
        lines += _labelled("risk, rules", f"the diff hides characters: {', '.join(hidden)}", inner, "bad")
    for label, text, name in risks(model, row):
        lines += _labelled(label, text, inner, name)
    if row["state"] == "waiting":
        lines += _labelled("so far", past_of_category(model, row["category"]), inner, "dim")
        lines += _labelled("noise", trunk_noise(model), inner, "dim")
        lines += _labelled("cost", cost(model), inner, "dim")
    lines += _labelled("asked", asked_cost(model, row), inner, "dim")
    if row["files"]:
        spans: list[Span] = [(f.fit("files", 12), "faint")]
        for file in row["files"]:
            spans += [
                (f"{file['path']} ", "text"),
                (f"+{file['added']}", "added"),
                (f" −{file['removed']}  ", "removed"),
            ]
            if file["status"] in ("A", "D"):
                spans.append(("new  " if file["status"] == "A" else "deleted  ", "warn"))
        lines.append(Line(tuple(spans)))
    return lines


def _predicted(model: ReadModel, row: ProposalRow) -> str:
    """The predicted effect in the metric's unit; empty when none was given."""
    effect = row.get("predicted_effect")
    if effect is None:
        return ""
    unit = f" {model.lab['unit']}" if model.lab and model.lab["unit"] else ""
    return f"{f.signed(effect)}{unit} predicted (above 0 is better)"


def _identity(row: ProposalRow) -> Line:
    short = f"diff {row['diff_hash'][:10]}" if row["diff_hash"] else "no diff"
    claims = f" · claims {row['claims']}" if row.get("claims") else ""
    spans: list[Span] = [
        (row["id"], "dim"),
        (f" · {row['category']}{claims} · by {row['proposer']} · ", "dim"),
        (short, "faint"),
    ]
    return Line(tuple(spans))


def _fate(model: ReadModel, row: ProposalRow, width: int) -> list[Line]:
    """Refused with its type and why, or decided by whom and why; nothing while it waits."""
    if row["state"] == "refused":
        text = f"refused, {row['refusal'] or 'no type'}: {row['detail'] or 'no detail was given'}"
        return [
            Line((("✗ " if at == 0 else "  ", "bad"), (each, "bad")))
            for at, each in enumerate(f.wrap(text, width - 2, 6))
        ]
    if row["state"] == "waiting":
        story = [f"takes the place of {row['replaces']}"] if row.get("replaces") else []
        story += [f"edited by {row['co_author']}"] if row.get("co_author") else []
        story += [f"repairs {row['repairs']}, which broke at its smoke"] if row.get("repairs") else []
        story += ["put off before"] if row.get("deferred") else []
        return [Line(((" · ".join(story), "accent"),))] if story else []
    sign, colour = STATES.get(row["state"], ("?", "dim"))
    text = f"{row['state']} by {row['decided_by'] or 'nobody known'}"
    text += f": {row['why']}" if row["why"] else ""
    text += f" → {row['replaced_by']} takes its place" if row.get("replaced_by") else ""
    text += f" → experiment {row['experiment']}" if row["experiment"] else ""
    return [
        Line(((f"{sign} " if at == 0 else "  ", colour), (each, colour)))
        for at, each in enumerate(f.wrap(text, width - 2, 4))
    ]


def _broke(model: ReadModel, row: ProposalRow, width: int) -> list[Line]:
    """What failed at the smoke of this proposal, or of the one that it repairs, with its last lines."""
    about = model.proposals.get(row["repairs"], row) if row.get("repairs") and row["state"] == "waiting" else row
    experiment = broke_at_smoke(model, about)
    if experiment is None or experiment["verdict"] is None:
        return []
    hint = "; e edits it, and what you save waits for review" if about is row else ""
    lines = _labelled("broke", experiment["verdict"]["sentence"] + hint, width, "bad")
    for shard in model.shards_of(experiment["id"]):
        for each in shard.get("said", "").splitlines():
            lines.append(Line(((f.fit("", 12), "faint"), (f.fit(each, width - 12).rstrip(), "dim"))))
    return lines


def _labelled(label: str, text: str, width: int, name: str = "text") -> list[Line]:
    if not text.strip():
        return []
    parts = f.wrap(text, width - 12, 12)
    return [
        Line(((f.fit(label if at == 0 else "", 12), "bad" if name == "bad" else "faint"), (part, name)))
        for at, part in enumerate(parts)
    ]
