"""Training runs: the launcher that parents them, and the executors behind one Protocol."""
