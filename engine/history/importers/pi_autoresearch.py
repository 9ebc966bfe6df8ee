"""pi-autoresearch's `autoresearch.jsonl`: a config line starts a segment with its own metric and direction; runs follow."""

from __future__ import annotations

from typing import Any

from engine.history.importers.base import Reading, Source, cut, finite
from engine.history.importers.columns import Columns, choose, commit_of, param, run_of, seconds_of, text
from engine.history.importers.jsonl import parsed
from engine.history.importers.lines import lines
from engine.history.importers.words import begin, unmask

_OWN = {"metric": "metric", "status": "status", "description": "description", "commit": "commit", "time": "timestamp"}
_REASON = "asi.error"


class PiAutoresearch:
    name = "pi-autoresearch"
    says = "pi-autoresearch's autoresearch.jsonl: config lines start segments"

    def suits(self, name: str, head: bytes) -> float:
        if b'"type"' in head and b'"config"' in head and b'"metricName"' in head:
            return 0.97
        return 0.6 if name.lower().endswith("autoresearch.jsonl") else 0.0

    def read(self, source: Source) -> Reading:
        reading = Reading(self.name)
        for number, line in lines(source, reading):
            record = parsed(line)
            if not isinstance(record, dict):
                reading.puzzled(number, line, "no JSON object")
            elif record.get("type") == "config":
                _config(reading, number, record)
            elif "run" in record or "metric" in record or "status" in record:
                self._run(reading, number, line, record, source)
            else:
                reading.puzzled(number, line, "neither a config line nor a run")
        unmask(reading)
        return reading

    def _run(self, reading: Reading, number: int, line: str, record: dict[str, Any], source: Source) -> None:
        if not reading.segments:
            begin(reading, number, source.mapping.get("metric", "metric"), source.mapping.get("direction", ""))
            reading.note("runs stand before any config line: they are a segment whose metric is not named")
        metrics = record.get("metrics")
        if not isinstance(metrics, dict):
            metrics = {}
        asi = record.get("asi")
        own = {key: record.get(key) for key in _OWN.values()}
        own[_REASON] = asi.get("error") if isinstance(asi, dict) else None
        rest = {key: value for key, value in metrics.items() if len(str(key)) < 1000}
        columns = Columns(
            {
                **{k: v for k, v in choose(rest, {}).roles.items() if k in ("steps", "seconds")},
                **_OWN,
                "reason": _REASON,
            }
        )
        run = run_of(reading, number, {**rest, **own}, columns)
        if run is None:
            reading.puzzled(number, line, "more runs than an import may hold")
            return
        reading.account.run += 1
        run.name = cut(text(record.get("run")))
        run.commit, run.t = commit_of(text(record.get("commit"))), seconds_of(record.get("timestamp"))
        if isinstance(asi, dict):
            run.params.update((cut(str(key)), param(value)) for key, value in list(asi.items())[:200])
        if (sure := finite(record.get("confidence"))) is not None:
            run.further["confidence"] = sure


def _config(reading: Reading, number: int, record: dict[str, Any]) -> None:
    reading.account.header += 1
    metric = text(record.get("metricName")) or "metric"
    said, name, unit = (text(record.get(key)) for key in ("bestDirection", "name", "metricUnit"))
    begin(reading, number, metric, said, name=name, unit=unit)
