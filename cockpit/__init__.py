"""The terminal: a client of the engine. It holds no truth; it renders a read model."""
