"""Fixtures of the recorded numbers; the table is printed by the hooks of tests/conftest.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from .ledger import KEY, row
from .reference import Reference


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Iterator[Callable[[Reference], None]]:
    """Takes the file of this test; what became of it travels with the test's report."""
    taken: list[Reference] = []
    yield taken.append
    request.node.user_properties.extend((KEY, row(file)) for file in taken)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
