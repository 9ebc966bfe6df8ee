"""Screen 1: the table of experiments, and for the selected one its verdict, its curves and its log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from engine.types import ExperimentRow, FindingRow

from .. import keys
from ..cluster import place
from ..evidence import weighed
from ..format import plural
from ..shortlisting import SHORTLIST, listed
from ..shortlisting import keys as shortlisted
from ..summary import SORTS, RowKey, kept_text, main_shard, ordered
from ..traces import chosen, wanted_shards
from ..widgets.brief_pane import BriefPane
from ..widgets.cluster_line import cluster_line
from ..widgets.curves import SMOOTHING, Curves
from ..widgets.evidence_pane import EvidencePane
from ..widgets.findings_pane import FindingsPane
from ..widgets.lines import BLANK, Line, Lines
from ..widgets.log_view import LogView
from ..widgets.overview import overview
from ..widgets.prompt import Question
from ..widgets.runs_table import RunsTable
from .piloting import PilotingScreen

NARROW = 120
STOP_REASONS = ("no longer needed", "clearly worse already", "wrong change", "frees the slots for something else")


class RunsScreen(PilotingScreen):
    """Home. Panes: table, and log, evidence, brief or findings; the side is hidden below 120 columns until one is opened."""

    scope = "runs"
    CSS_PATH: ClassVar[list[str]] = ["base.tcss", "runs.tcss"]  # type: ignore[assignment]
    BINDINGS = keys.bindings("all", "runs")

    def __init__(self) -> None:
        super().__init__()
        self.sort = SORTS[0]
        self.terms = ""
        self.unfolded: set[str] = set()
        self.pane = "table"
        self._keys_for: object = None
        self._traces_for: object = None

    def body(self) -> Iterable[Widget]:
        yield Lines(id="cluster")
        yield Horizontal(
            RunsTable(id="table"),
            Vertical(Lines(id="overview"), Curves(), LogView(), EvidencePane(), BriefPane(), FindingsPane(), id="side"),
            id="body",
        )

    @property
    def table(self) -> RunsTable:
        return self.query_one(RunsTable)

    @property
    def log_view(self) -> LogView:
        return self.query_one(LogView)

    @property
    def zoomed(self) -> bool:
        return self.has_class("zoom")

    @property
    def side_shown(self) -> bool:
        return self.zoomed or self.page_shown or not self.has_class("narrow")

    @property
    def shard(self) -> str | None:
        """The shard whose log is shown for the selected row."""
        cursor = self.table.cursor
        return None if cursor is None else cursor.shard or main_shard(self.model, cursor.experiment)

    def selected(self) -> ExperimentRow | None:
        cursor = self.table.cursor
        return self.model.experiments.get(cursor.experiment) if cursor and cursor.shard is None else None

    # --- showing

    def on_resize(self) -> None:
        self.set_class(self.size.width < NARROW, "narrow")
        self.table.alone = self.size.width < NARROW
        height = self.size.height - 2
        self.query_one("#overview", Lines).styles.height = min(13, max(height // 3, 6))
        self.log_view.styles.height = max(height // 4, 5)
        super().on_resize()

    def phase(self) -> str:
        """Without what the line about the cluster says already."""
        phase, cluster = super().phase(), self.model.cluster
        if cluster is None:
            return phase
        if phase == cluster["allocation"].get("sentence"):
            return ""
        return "running" if phase.startswith(("running on ", "running; ")) else phase

    def _sync_cluster(self) -> None:
        box = self.query_one("#cluster", Lines)
        found = cluster_line(self.model, self.size.width, self.cockpit.wall())
        if box.display != (found is not None):
            box.display = found is not None
            self.sync_soon()
        box.show([found] if found is not None else [])

    def sync_body(self) -> None:
        table, model = self.table, self.model
        self._sync_cluster()
        state = (model.version, self.sort, self.terms, frozenset(self.unfolded))
        if state != self._keys_for:
            self._keys_for = state
            short = self.sort == SHORTLIST
            in_order = shortlisted(model, self.terms, self.unfolded) if short else None
            table.set_keys(ordered(model, self.sort, self.terms, self.unfolded) if in_order is None else in_order)
            table.weighed = weighed(model)
            found = [place(model.shards[key.shard]) for key in table.keys if key.shard in model.shards]
            longest = max(map(len, found), default=0)
            table.place = min(max(longest, 8), 14) if longest else 0
        self.sync_evidence(focused=self.pane == "evidence")
        self._fetch()
        if not self.zoomed and not (self.page_shown and self.has_class("narrow")):
            table.redraw(model, self._when_empty())
        self.sync_brief(focused=self.pane == "brief")
        self.sync_findings(focused=self.pane == "findings")
        if self.side_shown and not self.page_shown and self.query_one("#side").size.width:
            self._sync_side()

    def _when_empty(self) -> list[Line]:
        if self.sort == SHORTLIST and not self.terms:
            return [BLANK, Line((("  Nothing is solid on the present trunk yet; v shows all experiments.", "dim"),))]
        text = "Nothing matches this filter; esc clears it." if self.terms else "No run yet."
        hint = "Proposals wait on screen 2: read one and approve it." if self.model.waiting() else ""
        return [BLANK, Line(((f"  {text}", "dim"),)), Line(((f"  {hint}", "dim"),))]

    def _sync_side(self) -> None:
        model, cursor = self.model, self.table.cursor
        width = self.query_one("#side").size.width
        if not self.evidence_shown:
            box = self.query_one("#overview", Lines)
            experiment = model.experiments.get(cursor.experiment) if cursor else None
            shard = model.shards.get(cursor.shard) if cursor and cursor.shard else None
            box.show(overview(model, experiment, shard, width, box.size.height or 13, self.cockpit.wall()))
        curves = self.query_one(Curves)
        state = (
            model.version, model.live_version, cursor, tuple(self.table.marks.items()), curves.smoothing,
            curves.log_axis, curves.size, self.cockpit.theme,
        )  # fmt: skip
        if state != self._traces_for:
            self._traces_for = state
            curves.redraw(chosen(model, cursor, self.table.marks), "training loss")
        if self.evidence_shown:
            return
        if self.shard is None:
            self.log_view.set_text(None, "", 0, 0)
        note = "follows" if self.shard and self._runs(self.shard) else ""
        self.log_view.redraw(focused=self.pane == "log", note=note)

    def _runs(self, shard: str) -> bool:
        row = self.model.shards.get(shard)
        return row is not None and row["state"] in ("running", "scoring")

    def _fetch(self) -> None:
        table = self.table
        visible = [key.experiment for key in table.keys[table.top : table.top + table.rows_visible]]
        marks = visible if self.has_class("narrow") else table.marks
        self.cockpit.fetcher.want_curves(wanted_shards(self.model, table.cursor, marks))
        if self.side_shown and not self.page_shown:
            shard = self.shard
            self.cockpit.fetcher.want_log(shard, self._runs(shard) if shard else False)

    def take_log(self, shard: str, text: str, start: int, size: int) -> None:
        """The log that was asked for has come."""
        view = self.log_view
        if shard == view.shard and start > view.start and view.up:
            return
        view.set_text(shard, text, start, size)

    # --- moving

    def move(self, by: int) -> None:
        if self.pane == "brief":
            self.brief_pane.scroll_by(by)
        elif self.pane == "evidence" and self.evidence_shown:
            self.evidence_pane.scroll_by(by)
        elif self.pane == "findings":
            self.findings_pane.move(by)
        elif self.pane == "log" and self.side_shown:
            self.log_view.scroll_by(by)
            if by < 0 and self.log_view.at_top and self.log_view.start > 0 and self.log_view.shard:
                self.cockpit.fetcher.want_older(self.log_view)
        else:
            self.table.move(by)

    def half_page(self) -> int:
        if self.pane == "findings":
            return 5
        pane = {"log": self.log_view, "brief": self.brief_pane, "evidence": self.evidence_pane}.get(
            self.pane, self.table
        )
        return max(pane.size.height // 2, 1)

    def do_next_pane(self) -> None:
        if self.evidence_shown:
            self.pane = "evidence" if self.pane == "table" or self.has_class("narrow") else "table"
        elif self.page_shown:
            page = "brief" if self.brief_shown else "findings"
            self.pane = "table" if self.pane == page and not self.has_class("narrow") else page
        elif self.side_shown and not self.zoomed:
            self.pane = "log" if self.pane == "table" else "table"

    do_previous_pane = do_next_pane

    def why_not(self, action: str) -> str | None:
        cursor = self.table.cursor if self.is_mounted else None
        if action in ("open", "expand", "fold", "zoom", "mark", "stop", "copy") and cursor is None:
            return "no run is selected"
        if action in ("next_pane", "previous_pane") and not self.side_shown:
            return "one pane fits here: enter opens the selected run"
        if action == "stop" and cursor is not None:
            row = self.model.experiments[cursor.experiment]
            retuned = any(each["ended"] is None for each in self.model.retunes_of(row["id"]))
            if cursor.shard is None and row["state"] not in ("queued", "running") and not retuned:
                return f"{row['id']} is {row['state']}: there is nothing to stop"
            if cursor.shard is not None and self.model.shards[cursor.shard]["state"] == "ended":
                return f"{cursor.shard} has ended: there is nothing to stop"
        return super().why_not(action)

    # --- doing

    def do_back(self) -> None:
        if self.brief_shown:
            self.do_brief()
        elif self.findings_shown:
            self.do_findings()
        elif self.evidence_shown:
            self._weigh(False)
        elif self.zoomed:
            self._zoom(False)
        elif self.terms:
            self.terms = ""
        elif self.pane == "log":
            self.pane = "table"
        else:
            self.say("this is the first screen; ctrl+q leaves, and " + kept_text(self.model)[:-1].lower(), "dim")

    def do_open(self) -> None:
        if self.pane == "findings":
            self.findings_pane.toggle()
            return
        cursor = self.table.cursor
        assert cursor is not None
        narrow = self.has_class("narrow")
        if self.zoomed:
            self._zoom(False)
        elif narrow and self.has_evidence():
            self._weigh(not self.evidence_shown)
        elif cursor.shard is not None or narrow:
            self._zoom(True)
        elif cursor.experiment in self.unfolded:
            self.do_fold()
            self._weigh(False)
        else:
            self.do_expand()
            self._weigh(self.has_evidence())

    def _weigh(self, on: bool) -> None:
        self.pane = "evidence" if on and self.has_class("narrow") else "table"
        self.show_evidence(on)

    def do_expand(self) -> None:
        if self.table.cursor:
            self.unfolded.add(self.table.cursor.experiment)

    def do_fold(self) -> None:
        cursor = self.table.cursor
        if cursor is not None:
            self.unfolded.discard(cursor.experiment)
            self.table.cursor = RowKey(cursor.experiment)

    def do_zoom(self) -> None:
        self._zoom(not self.zoomed)

    def open_brief(self) -> None:
        self.close_evidence()
        self.show_brief(True)
        self.pane = "brief"

    def do_brief(self) -> None:
        if not self.brief_shown:
            self.open_brief()
            return
        self.show_brief(False)
        self.pane = "log" if self.zoomed else "table"

    def found_about(self) -> tuple[str, list[FindingRow]]:
        cursor, model = self.table.cursor, self.model
        row = model.experiments.get(cursor.experiment) if cursor else None
        if cursor is None or row is None or (row["role"] == "trunk" and cursor.shard is None):
            return "the whole lab", list(model.findings.values())
        if cursor.shard is not None:
            return cursor.shard, model.findings_about(cursor.shard)
        return row["id"], model.findings_of(row["id"])

    def do_findings(self) -> None:
        self.show_findings(not self.findings_shown)
        self.pane = "findings" if self.findings_shown else "log" if self.zoomed else "table"

    def _zoom(self, on: bool) -> None:
        self.set_class(on, "zoom")
        self.remove_class("brief", "findings")
        self.close_evidence()
        self.pane = "log" if on else "table"
        self.sync_soon()

    def do_mark(self) -> None:
        table = self.table
        cursor = table.cursor
        assert cursor is not None
        if table.marks.pop(cursor.experiment, None) is None:
            taken = set(table.marks.values())
            free = next((number for number in range(1, 6) if number not in taken), len(taken) % 5 + 1)
            table.marks[cursor.experiment] = free

    def to_sign(self) -> ExperimentRow | None:
        cursor = self.table.cursor if self.is_mounted else None
        return self.model.experiments.get(cursor.experiment) if cursor else None

    def to_sign_together(self) -> list[ExperimentRow]:
        if self.sort != SHORTLIST or not self.is_mounted:
            return []
        marked = [each["experiment"] for each in listed(self.model) if each["experiment"] in self.table.marks]
        return [self.model.experiments[name] for name in marked] if len(marked) > 1 else []

    def do_shortlist(self) -> None:
        self.sort = SORTS[0] if self.sort == SHORTLIST else SHORTLIST
        self.say(f"order: {self.sort}", "dim")

    def do_sort(self) -> None:
        self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)] if self.sort in SORTS else SORTS[0]
        self.say(f"order: {self.sort}", "dim")

    def do_smooth(self) -> None:
        curves = self.query_one(Curves)
        names = list(SMOOTHING)
        curves.smoothing = names[(names.index(curves.smoothing) + 1) % len(names)]

    def do_log_scale(self) -> None:
        curves = self.query_one(Curves)
        curves.log_axis = not curves.log_axis

    def do_filter(self) -> None:
        before = self.terms

        def changed(text: str) -> None:
            self.terms = text
            self.sync()

        self.ask(
            Question(
                title="filter", text=before, go="keep", answer=changed, changed=changed,
                cancelled=lambda: changed(""), guarded=False, alarm=False,
            )
        )  # fmt: skip

    def do_copy(self) -> None:
        cursor = self.table.cursor
        assert cursor is not None
        if cursor.shard:
            self.cockpit.copy("id", cursor.shard)
        else:
            self.cockpit.copy("branch", self.model.experiments[cursor.experiment]["branch"])

    def do_stop(self) -> None:
        cursor = self.table.cursor
        assert cursor is not None
        target = cursor.shard or cursor.experiment
        running = [row for row in self.model.shards_of(cursor.experiment) if row["state"] in ("running", "scoring")]
        what = "this shard" if cursor.shard else f"{plural(len(running), 'running shard')} and all that would follow"
        self.ask(
            Question(
                title=f"Stop {target}?",
                details=(f"It ends {what}; what was measured stays in the record, and this cannot be undone.",),
                go="stop it",
                text="",
                stock=STOP_REASONS,
                required=True,
                answer=lambda why: self.cockpit.stop(target, why),
            )
        )
