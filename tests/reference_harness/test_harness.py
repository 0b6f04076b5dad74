"""The harness must be able to fail: it sees wrong values, forgotten arrays and files that nobody reads."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from .adapters import adapter_for
from .reference import OWN_FOLDER, Reference, shortfall


def adapt(reference: Reference) -> Reference:
    """The reference, after its adapter."""
    adapter = adapter_for(reference.name)
    assert adapter is not None
    adapter(reference)
    return reference


def test_shortfall_is_the_error_in_tolerances() -> None:
    truth = torch.tensor([1.0, -4.0], dtype=torch.float64)
    assert shortfall(truth + 0.002, truth, 1e-3) == pytest.approx(0.5)
    assert shortfall(truth + 0.002, truth, 0.0, floor=1e-3) == pytest.approx(2.0)


@pytest.mark.parametrize("value", [[1.0, float("nan")], [1.0], [1.0, float("inf")]])
def test_nan_shape_and_infinity_are_infinitely_wrong(value: list[float]) -> None:
    assert shortfall(torch.tensor(value), torch.tensor([1.0, 2.0]), 1e3) == float("inf")


def test_infinities_are_met_exactly() -> None:
    truth = torch.tensor([1.0, float("inf")])
    assert shortfall(truth, truth, 1e-9) == 0.0
    assert shortfall(-truth, truth, 1e9) == float("inf")


@pytest.mark.parametrize(
    "name", ["iddpm_ema", "ddim_loss", "iddpm_losses", "truth_vdm_single_gaussian", "iddpm_sampling_respaced"]
)
def test_every_checked_array_can_fail(name: str, tmp_path: Path) -> None:
    original = adapt(Reference(OWN_FOLDER / f"{name}.npz"))
    floats = [key for key in original.checked if original.arrays[key].dtype.kind == "f"]
    off = {key: original.arrays[key] * (1 + 1e-3) for key in floats}
    np.savez(tmp_path / f"{name}.npz", **{**original.arrays, **off})
    changed = adapt(Reference(tmp_path / f"{name}.npz"))
    assert floats
    assert {key for key, ratio in changed.checked.items() if ratio > 1} == set(floats)


def test_unknown_arrays_and_files_are_named(tmp_path: Path) -> None:
    arrays = Reference(OWN_FOLDER / "iddpm_ema.npz").arrays
    np.savez(tmp_path / "iddpm_ema.npz", **arrays, brand_new=np.ones(3))
    reference = adapt(Reference(tmp_path / "iddpm_ema.npz"))
    assert reference.unknown == ["brand_new"]
    assert not reference.failures
    assert adapter_for("a_paper_of_next_year") is None


def test_every_file_has_its_provenance() -> None:
    readme = (OWN_FOLDER / "README.md").read_text()
    for path in OWN_FOLDER.glob("*.npz"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in readme, path.name
        assert f"| `{path.stem}` |" in readme, path.name


def test_float32_records_are_compared_in_float32() -> None:
    reference = Reference(OWN_FOLDER / "iddpm_q_linear1000.npz")
    with pytest.raises(AssertionError, match="computed in torch"):
        reference.check("f32_q_mean", reference.recorded("f64_q_mean"), 1e-5)
