"""One screen a module, with its .tcss of the same name."""
