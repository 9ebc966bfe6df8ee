"""Statistics and evidence: pure functions, no I/O."""
