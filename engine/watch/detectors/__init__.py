"""Failure detectors, one rule a file. `registry` knows them all, `settings` what a lab changed; see docs/detectors.md."""
