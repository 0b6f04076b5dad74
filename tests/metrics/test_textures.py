"""Power spectra and channel moments: what they see, and what they do not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from logsnr.metrics import METRICS
from logsnr.metrics.channels import NAMES
from logsnr.metrics.spectral import radii, spectra
from tests.metrics.conftest import comparison

RNG = np.random.default_rng(0)


def spectral(x: np.ndarray, y: np.ndarray) -> float:
    return METRICS["spectral"](comparison(x, y)).figures["spectral_nats"].value


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 9, 6), (2, 33), (1, 4, 6, 5)])
def test_spectra_are_the_full_transform_averaged_over_rings(shape: tuple[int, ...]) -> None:
    """The half that `rfftn` keeps, its edges counted once, against all frequencies of `fftn`."""
    x = RNG.normal(size=(2, *shape))
    axes = tuple(range(2, x.ndim))
    power = (np.abs(np.fft.fftn(x, axes=axes)) ** 2).mean(1) / np.prod(shape[1:])
    grid = np.meshgrid(*(np.fft.fftfreq(side) for side in shape[1:]), indexing="ij")
    ring = np.rint(np.sqrt(sum(f**2 for f in grid)) * max(shape[1:])).astype(int)
    rings = sorted(set(ring.ravel()) - {0})
    expected = np.stack([power[:, ring == r].mean(1) for r in rings], axis=1)
    assert np.allclose(spectra(x), expected, rtol=1e-10)
    assert radii(shape[1:]).max() == max(rings)


def test_white_noise_is_flat_and_a_wave_is_one_ring() -> None:
    noise = 0.3 * RNG.normal(size=(3000, 1, 16, 16))
    assert np.allclose(spectra(noise).mean(0), 0.09, rtol=0.03)
    wave = np.cos(2 * np.pi * 3 * np.arange(16) / 16) * np.ones((1, 1, 16, 1))
    assert spectra(wave)[0].argmax() == 2, "three cycles; the first ring is one cycle"


def test_what_changes_the_spectral_distance_and_what_does_not() -> None:
    x, y = RNG.normal(size=(40, 2, 8, 8)), RNG.normal(size=(50, 2, 8, 8))
    base = spectral(x, y)
    for same in (np.roll(x, (3, 5), (2, 3)), -x, x[..., ::-1], x + 0.5, x.swapaxes(2, 3), x[::-1]):
        assert spectral(same, y) == pytest.approx(base, rel=1e-5)
    assert spectral(x, x) == 0
    assert spectral(np.e * x, x) == pytest.approx(2.0, rel=1e-6), "a factor c adds 2 log c"
    blurred = (x + np.roll(x, 1, 2) + np.roll(x, 1, 3)) / 3
    facts = METRICS["spectral"](comparison(blurred, x)).facts["log_power_ratio_nats"]
    assert facts[-1] < facts[0] - 1, "a blur takes the high frequencies"


def test_vectors_have_no_spectrum() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) have no spectrum"):
        spectral(np.zeros((4, 3)), np.zeros((4, 3)))


def test_channel_moments_are_scipy_s() -> None:
    x, y = RNG.gamma(2.0, size=(200, 3, 5, 5)), RNG.normal(size=(300, 3, 5, 5))
    found = METRICS["channel_moments"](comparison(x, y))
    for name, function in zip(
        NAMES, (np.mean, np.std, stats.skew, lambda v: stats.kurtosis(v, fisher=False)), strict=True
    ):
        both = [[float(function(z[:, c].ravel())) for c in range(3)] for z in (x, y)]
        table = found.facts["channels"][name]
        assert np.allclose([table["samples"], table["reference"]], both, rtol=1e-5, atol=1e-6), name
        differences = np.subtract(*both)
        worst = differences[np.abs(differences).argmax()]
        assert found.figures[f"channel_{name}"].value == pytest.approx(worst, rel=1e-4)


def test_a_colour_cast_is_the_channel_s_with_its_sign() -> None:
    x = RNG.normal(size=(400, 3, 4, 4))
    cast = x.copy()
    cast[:, 1] -= 0.25
    found = METRICS["channel_moments"](comparison(cast, x, bootstrap=100)).figures
    assert found["channel_mean"].value == pytest.approx(-0.25, rel=1e-4)
    interval = found["channel_mean"].interval
    assert interval is not None
    assert interval[0] < -0.25 < interval[1] < 0
    assert abs(found["channel_std"].value) < 1e-6


def test_a_constant_channel_has_no_shape() -> None:
    x = np.ones((10, 2, 3, 3))
    found = METRICS["channel_moments"](comparison(x, x)).figures
    assert all(figure.value == 0 for figure in found.values())
