"""Every threat of docs/threats.md, planted as a real shard or a real diff in a real engine."""
