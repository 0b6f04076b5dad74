from __future__ import annotations

import numpy as np
import pytest
import torch

from logsnr.nets import Conditioning, FourierFeatures, build, sinusoidal


@pytest.mark.parametrize(("dim", "max_period"), [(2, 10_000), (7, 10_000), (64, 50), (128, 10_000)])
def test_closed_form(dim: int, max_period: int) -> None:
    label = np.array([0.0, 0.5, 1.0, 3.25, 999.0])
    half = dim // 2
    angles = label[:, None] * max_period ** -(np.arange(half) / half)
    expected = np.concatenate([np.cos(angles), np.sin(angles), np.zeros((5, dim % 2))], axis=1)
    actual = sinusoidal(torch.from_numpy(label), dim, max_period)
    assert actual.dtype == torch.float32
    np.testing.assert_allclose(actual[:4], expected[:4], atol=2e-6)
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_frequencies_divide_by_half_and_not_by_half_minus_one() -> None:
    # cos(10000^(-3/4)): the slowest of four pairs has not reached 1/max_period.
    assert sinusoidal(torch.ones(1), 8)[0, 7].item() == pytest.approx(np.sin(1e-3), rel=1e-5)


def test_too_few_features_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 features; got dim = 1"):
        sinusoidal(torch.ones(1), 1)


def test_the_null_class_is_the_row_after_the_last_and_the_default() -> None:
    conditioning = Conditioning(8, 16, num_classes=3)
    label = torch.tensor([1.0, 2.0])
    null = conditioning(label, torch.tensor([3, 3]))
    assert torch.equal(conditioning(label), null)
    assert conditioning.classes is not None
    table = conditioning.classes.weight
    torch.testing.assert_close(conditioning(label, torch.tensor([0, 2])) - null, table[[0, 2]] - table[3])


def test_classes_given_to_a_network_without_are_refused() -> None:
    with pytest.raises(ValueError, match="num_classes = 0"):
        Conditioning(8, 16)(torch.ones(2), torch.zeros(2, dtype=torch.int64))


def test_fourier_features_estimate_a_gaussian_kernel() -> None:
    """E cos 2πf(c − c') = exp(−½ (2π scale (c − c'))²) for f ~ N(0, scale²) (Rahimi & Recht 2007)."""
    torch.manual_seed(0)
    scale, labels = 0.5, torch.tensor([-4.6, -4.5, -4.3, 0.0, 0.1, 3.9])
    features = FourierFeatures(200_000, scale)(labels).double()
    kernel = features @ features.T / 100_000
    distance = labels.double()[:, None] - labels.double()
    torch.testing.assert_close(kernel, torch.exp(-0.5 * (2 * torch.pi * scale * distance) ** 2), rtol=0, atol=0.01)


def test_fourier_frequencies_travel_with_the_weights_and_are_not_trained() -> None:
    options = {"channels": 8, "multipliers": [1]}
    torch.manual_seed(0)
    first, second = (build("ncsnpp-tiny", (1, 4, 4), **options) for _ in range(2))
    name = "embedding.encode.frequencies"
    assert name not in dict(first.named_parameters())
    assert not torch.equal(first.state_dict()[name], second.state_dict()[name])
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(second.state_dict()[name], first.state_dict()[name])


def test_odd_fourier_features_are_refused() -> None:
    with pytest.raises(ValueError, match="pairs; got 7"):
        FourierFeatures(7, 1.0)
