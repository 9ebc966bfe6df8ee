"""Brings a history of an older schema up to the present one in place: one small step a version, each in one transaction.

What shards measured is never dropped, since reading it again takes longest. Tables that are filled from the ledger are dropped
where they changed and indexed again: `_index_again`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import duckdb

from engine.history.tables import ROW_TABLES

Step = Callable[[duckdb.DuckDBPyConnection], None]


def migrate(con: duckdb.DuckDBPyConnection, found: int, wanted: int, steps: Mapping[int, Step] | None = None) -> bool:
    """Bring a history from schema `found` to `wanted`; `steps` are by the version that they start from.

    False, and nothing was changed, where the way is not known: from a newer schema, or from before the oldest step.
    """
    steps = STEPS if steps is None else steps
    if found > wanted or any(version not in steps for version in range(found, wanted)):
        return False
    for version in range(found, wanted):
        con.execute("BEGIN")
        try:
            steps[version](con)
            con.execute("UPDATE meta SET number = ? WHERE key = 'schema'", [version + 1])
        except BaseException:
            con.execute("ROLLBACK")
            raise
        con.execute("COMMIT")
    return True


def _index_again(con: duckdb.DuckDBPyConnection) -> None:
    """Drop what is filled from the ledger, to be made anew by schema.sql and filled from its first event on."""
    for table in (*ROW_TABLES.values(), "setups", "verdicts", "events"):
        con.execute(f"DROP TABLE IF EXISTS {table}")
    con.execute("UPDATE meta SET number = 0 WHERE key = 'indexed'")


STEPS: Mapping[int, Step] = {
    10: _index_again,  # shards, experiments and verdicts gained what they are to be compared by
    11: _index_again,  # shards gained what they ran on, and what they went on from
}
"""By the version that each starts from. Only the ledger knows the new columns of old rows."""
