"""One JSON document: lists of final metrics by name, a list of runs, or runs by name."""

from __future__ import annotations

from typing import Any

from engine.history.importers.base import Reading, Source, cut, real
from engine.history.importers.columns import as_json, check_mapping, text
from engine.history.importers.jsonl import parsed, take
from engine.history.importers.words import begin, likeliest_metric, settle, unmask


class JsonFile:
    name = "json"
    says = "one JSON document: lists of final metrics by name, a list of runs, or runs by name"

    def suits(self, name: str, head: bytes) -> float:
        start = head.lstrip()[:1]
        if start not in (b"{", b"["):
            return 0.0
        return 0.75 if name.lower().endswith(".json") else 0.4

    def read(self, source: Source) -> Reading:
        reading = Reading(self.name)
        reading.account.unit = "values"
        check_mapping(source.mapping)
        document = parsed(source.body.decode("utf-8", "replace").removeprefix("\ufeff"))
        if isinstance(document, dict):
            self._by_name(reading, document, source)
        elif isinstance(document, list):
            self._list(reading, document, source)
        elif source.body.strip():
            reading.account.total += 1
            reading.puzzled(1, source.body[:1000], "no JSON object and no list")
        return reading

    def _list(self, reading: Reading, items: list[Any], source: Source) -> None:
        """A list of objects is a list of runs; one of numbers is of their metrics."""
        if any(isinstance(each, dict) for each in items):
            rows = []
            for number, item in enumerate(items, 1):
                reading.account.total += 1
                if isinstance(item, dict):
                    rows.append((number, item))
                else:
                    reading.puzzled(number, as_json(item), "no object")
            take(reading, rows, source.mapping)
        else:
            self._values(reading, {"": items}, source)

    def _by_name(self, reading: Reading, document: dict[str, Any], source: Source) -> None:
        if document and all(isinstance(each, dict) for each in document.values()):
            rows = [(n, {"name": name, **item}) for n, (name, item) in enumerate(document.items(), 1)]
            reading.account.total += len(rows)
            take(reading, rows, source.mapping)
        else:
            self._values(reading, document, source)

    def _values(self, reading: Reading, document: dict[str, Any], source: Source) -> None:
        """Final metrics by the name of what repeats share."""
        named = {role: name for role, name in source.mapping.items() if role in ("metric", "direction", "unit")}
        stem = source.name.lower().replace("-", "_").rsplit(".", 1)[0]
        metric = (
            named.get("metric")
            or ("val_loss" if "val_loss" in stem else likeliest_metric([stem]) and "loss")
            or "metric"
        )
        begin(reading, 1, metric, named.get("direction", ""), unit=named.get("unit", ""))
        reading.note(f"numbers are taken as the final {cut(metric)} of runs, and their names as what repeats share")
        number = 0
        for name, found in document.items():
            for place, value in enumerate(found if isinstance(found, list) else [found]):
                number += 1
                reading.account.total += 1
                where = f"{cut(text(name))}[{place}]" if isinstance(found, list) else cut(text(name))
                if isinstance(value, bool | dict | list) or (isinstance(value, str) and real(value) is None):
                    reading.puzzled(number, f"{where} = {as_json(value)}", "no number")
                    continue
                run = reading.run(number, name=where, group=cut(text(name)))
                if run is None:
                    reading.puzzled(number, where, "more runs than an import may hold")
                    continue
                settle(run, value, reading.segments[-1].direction)
                reading.account.run += 1
        unmask(reading)
