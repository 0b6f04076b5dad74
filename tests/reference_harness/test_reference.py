"""What the original programs computed, recomputed by the library, at the tolerance each record was made for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .adapters import adapter_for
from .reference import OWN_FOLDER, Reference, files


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_recorded_numbers(path: Path, ledger: Callable[[Reference], None]) -> None:
    reference, adapter = Reference(path), adapter_for(path.stem)
    ledger(reference)
    if adapter is None:
        reference.has_adapter = False
        pytest.skip("not covered: no adapter")
    adapter(reference)
    assert reference.checked or reference.facts, f"{path.stem}: nothing was checked"
    assert not reference.failures, "\n" + "\n".join(reference.failures)
    if path.parent == OWN_FOLDER:
        assert not reference.unknown, f"{path.stem}: neither checked nor explained: {', '.join(reference.unknown)}"
