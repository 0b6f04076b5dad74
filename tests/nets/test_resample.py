"""Resampling against its definition written as matrices, one axis at a time."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from logsnr.nets.blocks import ConvResample
from logsnr.nets.resample import RESAMPLERS, Blur

K = (1 / 8, 3 / 8, 3 / 8, 1 / 8)
SIZES = [(12,), (8, 6), (4, 6, 2)]


def band(rows: int, columns: int, weight: dict[int, float], stride: int, offset: int) -> Tensor:
    """The matrix with `weight[j]` at column stride·n + j + offset of row n, where there is such a column."""
    matrix = torch.zeros(rows, columns, dtype=torch.float64)
    for n, (j, value) in itertools.product(range(rows), weight.items()):
        if 0 <= stride * n + j + offset < columns:
            matrix[n, stride * n + j + offset] += value
    return matrix


def matrix(kind: str, change: str, size: int) -> Tensor:
    """The definition for one axis."""
    if (kind, change) == ("fir", "down"):
        return band(size // 2, size, dict(enumerate(K)), 2, -1)
    if (kind, change) == ("box", "down"):
        return band(size // 2, size, {0: 0.5, 1: 0.5}, 2, 0)
    if change == "blur":
        return band(size + 1, size, dict(enumerate(K)), 1, -2)
    up = torch.zeros(2 * size, size, dtype=torch.float64)
    for n in range(size):  # zeros are put between the samples, then k is convolved with twice the gain
        for j, value in enumerate(K if kind == "fir" else (0.0, 0.5, 0.5, 0.0)):
            if 0 <= 2 * n + j - 1 < 2 * size:
                up[2 * n + j - 1, n] += 2 * value
    return up


def along_every_axis(x: Tensor, kind: str, change: str) -> Tensor:
    for axis in range(2, x.ndim):
        x = torch.tensordot(matrix(kind, change, x.shape[axis]), x, dims=([1], [axis])).movedim(0, axis)
    return x


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("kind", RESAMPLERS)
@pytest.mark.parametrize("direction", ["down", "up"])
def test_resampling_is_its_definition(kind: str, direction: str, sizes: tuple[int, ...]) -> None:
    x = torch.randn(3, 5, *sizes, dtype=torch.float64)
    actual = RESAMPLERS[kind](len(sizes), direction).double()(x)  # type: ignore[arg-type]
    torch.testing.assert_close(actual, along_every_axis(x, kind, direction))


@pytest.mark.parametrize("sizes", SIZES)
def test_the_blur_is_its_definition(sizes: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, *sizes, dtype=torch.float64)
    torch.testing.assert_close(Blur(len(sizes)).double()(x), along_every_axis(x, "fir", "blur"))


def test_doubling_with_the_filter_is_linear_interpolation() -> None:
    x = torch.randn(1, 1, 9)
    y = RESAMPLERS["fir"](1, "up")(x)
    torch.testing.assert_close(y[..., 2::2], 0.25 * x[..., :-1] + 0.75 * x[..., 1:])
    torch.testing.assert_close(y[..., 1:-1:2], 0.75 * x[..., :-1] + 0.25 * x[..., 1:])


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("kind", RESAMPLERS)
def test_up_is_two_per_axis_times_the_adjoint_of_down(kind: str, sizes: tuple[int, ...]) -> None:
    rank = len(sizes)
    fine, coarse = torch.randn(2, 3, *sizes).double(), torch.randn(2, 3, *(n // 2 for n in sizes)).double()
    down, up = RESAMPLERS[kind](rank, "down").double(), RESAMPLERS[kind](rank, "up").double()
    torch.testing.assert_close((up(coarse) * fine).sum(), 2**rank * (coarse * down(fine)).sum())


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", RESAMPLERS)
def test_constants_stay_constants_away_from_the_border(kind: str, rank: int) -> None:
    x = torch.full((1, 2, *(8,) * rank), 7.0)
    for change in (RESAMPLERS[kind](rank, "down"), RESAMPLERS[kind](rank, "up"), Blur(rank)):
        y = change(x)
        inside = y[(..., *(slice(2, -2) if n > 4 else slice(1, -1) for n in y.shape[2:]))]
        torch.testing.assert_close(inside, torch.full_like(inside, 7.0))


def test_the_filter_stops_what_would_fold_back_and_the_box_lets_a_part_through() -> None:
    n = torch.arange(64, dtype=torch.float64)
    through = {}
    for kind in RESAMPLERS:
        down = RESAMPLERS[kind](1, "down").double()
        wave = [f(2 * math.pi * 0.4 * n).reshape(1, 1, -1) for f in (torch.cos, torch.sin)]
        through[kind] = math.sqrt(sum(down(w)[..., 2:-2].square().mean().item() for w in wave))
    # |H(f)| = |cos πf| for the box, |cos πf|³ for the filter, whose transform is (cos πf)³
    assert through["box"] == pytest.approx(math.cos(math.pi * 0.4), rel=0.02)
    assert through["fir"] == pytest.approx(math.cos(math.pi * 0.4) ** 3, rel=0.02)


@pytest.mark.parametrize("kind", RESAMPLERS)
@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_resampling_convolution_is_a_convolution_at_the_finer_size(kind: str, direction: str) -> None:
    change = ConvResample(1, 2, 3, direction, kind=kind).double()  # type: ignore[arg-type]
    x, conv = torch.randn(1, 2, 16).double(), change.conv
    y = change(x)
    if direction == "up":
        fine = along_every_axis(x, kind, "up")
        expected = torch.nn.functional.conv1d(fine, conv.weight, conv.bias, padding=1)
    else:  # at every second place, of the blurred picture for the filter
        fine = along_every_axis(x, "fir", "blur") if kind == "fir" else torch.nn.functional.pad(x, (1, 1))
        expected = torch.nn.functional.conv1d(fine, conv.weight, conv.bias)[..., ::2]
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("direction", ["down", "up"])
def test_filtered_convolutions_have_no_side(direction: str) -> None:
    """A mirrored kernel on a mirrored picture gives the mirrored result: nothing is shifted by half a pixel."""
    change = ConvResample(1, 1, 1, direction, kind="fir")  # type: ignore[arg-type]
    x = torch.randn(1, 1, 16)
    y = change(x)
    with torch.no_grad():
        change.conv.weight.copy_(change.conv.weight.flip(-1))
    torch.testing.assert_close(change(x.flip(-1)).flip(-1), y)
