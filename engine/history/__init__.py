"""The DuckDB index over ledger, git and metrics, and SQL over it."""
