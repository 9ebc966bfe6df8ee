"""A cluster for the tests in this directory. Where none can be started they are skipped, and say why; `make test-slurm`
installs what is missing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.slurm.cluster import Cluster, cluster, why_not


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    why = why_not()
    for item in items:
        if why is not None and "slurm" in item.path.parts:
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture
def slurm() -> Iterator[Cluster]:
    """A cluster of two nodes with four GPUs each, of this test alone."""
    with cluster(gpus=4) as made:
        yield made
