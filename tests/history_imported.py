"""A history that was made elsewhere, for the questions about imported runs: two segments, of which the second is to rise."""

from __future__ import annotations

from pathlib import Path

import duckdb

from tests.history_recorded import at

IMPORTED = """
INSERT INTO imports BY NAME SELECT 'i1' AS id, $t AS t, 'results.tsv' AS name, 'autoresearch' AS format, 'ada' AS who,
    'lines' AS unit, 9 AS total, 0 AS left_out, 1 AS not_understood, 6 AS runs, 0 AS points;
INSERT INTO imported_segments BY NAME SELECT 'i1' AS import, unnest([0, 1]) AS segment,
    unnest(['val_bpb', 'accuracy']) AS metric, unnest(['min', 'max']) AS direction;
INSERT INTO imported_runs BY NAME SELECT 'i1.' || n AS id, 'i1' AS import, * FROM (VALUES
    (1, 0, 'finished', 1.0, 'keep', 'baseline', ''),
    (2, 0, 'crashed', NULL, 'crash', 'wider', 'cfg-a'),
    (3, 0, 'finished', 0.9, 'keep', 'deeper', 'cfg-a'),
    (4, 0, 'finished', 0.95, 'discard', 'deeper', 'cfg-a'),
    (5, 1, 'finished', 0.5, 'keep', 'baseline', ''),
    (6, 1, 'finished', 0.6, 'keep', 'longer', '')
) v(n, segment, outcome, metric, status, description, "group");
"""


def fill(path: Path) -> None:
    """Put it into the closed history at `path`."""
    with duckdb.connect(str(path)) as con:
        for statement in duckdb.extract_statements(IMPORTED):
            con.execute(statement, {"t": at(300)} if statement.named_parameters else None)
