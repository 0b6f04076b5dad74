"""Facts about the map between raw data and model units."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from logsnr.data import Lattice, Transform


@pytest.mark.parametrize(
    ("levels", "offset"), [(256, math.log2(127.5)), (17, 3.0), (2, -1.0), (65536, math.log2(65535 / 2))]
)
def test_bits_per_dim_offset_is_minus_log2_of_the_bin_width(levels: int, offset: float) -> None:
    assert Transform((1, 8, 8), levels).bits_per_dim_offset == pytest.approx(offset, abs=1e-12)


def test_the_offset_turns_a_uniform_density_into_log2_of_the_levels() -> None:
    # A density that gives each of the L bins the mass 1/L has height 1/(L·width).
    for levels in (2, 17, 256):
        transform = Transform((1, 2, 2), levels)
        assert transform.lattice is not None
        nats_per_dim = math.log(levels * transform.lattice.width)
        assert nats_per_dim / math.log(2) + transform.bits_per_dim_offset == pytest.approx(math.log2(levels))


def test_256_levels_give_6_9944() -> None:
    assert round(Transform((3, 32, 32), 256).bits_per_dim_offset, 4) == 6.9944


def test_continuous_data_has_no_bits_per_dim_no_clip_no_lattice() -> None:
    transform = Transform((2,), None, mean=(0.0, 1.0), std=(2.0, 8.0))
    with pytest.raises(ValueError, match=r"bits/dim is refused.*nats/dim"):
        _ = transform.bits_per_dim_offset
    assert transform.nats_per_dim_offset == pytest.approx(math.log(4))
    assert transform.clip is None
    assert transform.lattice is None
    with pytest.raises(ValueError, match="continuous"):
        transform.index(torch.zeros(1, 2))


@pytest.mark.parametrize("levels", [2, 17, 256, 1024, 65536])
@pytest.mark.parametrize(("layout", "shape"), [("grey", (1, 5, 7)), ("channels_last", (3, 5, 7)), ("same", (5, 6, 7))])
def test_discrete_round_trip_is_exact(levels: int, layout: str, shape: tuple[int, ...]) -> None:
    transform = Transform(shape, levels, layout)
    raw = np.random.default_rng(0).integers(0, levels, (40, *transform.raw_shape)).astype(transform.dtype)
    raw.reshape(-1)[:2] = 0, levels - 1
    x = transform.encode(raw)
    assert x.dtype == torch.float32
    assert x.shape == (40, *shape)
    assert (x.min().item(), x.max().item()) == (-1.0, 1.0) == transform.clip
    decoded = transform.decode(x)
    assert decoded.dtype == raw.dtype
    assert np.array_equal(decoded, raw)
    expected = torch.from_numpy(raw.astype(np.int64)).reshape(-1)
    order = {"grey": (0, 2, 3, 1), "channels_last": (0, 2, 3, 1), "same": (0, 1, 2, 3)}[layout]
    assert torch.equal(transform.index(x).permute(order).reshape(-1), expected)


def test_every_level_is_the_float32_nearest_to_its_value() -> None:
    for levels in (17, 256, 65536):
        x = Transform((1,), levels).encode(np.arange(levels)[:, np.newaxis])[:, 0]
        assert torch.equal(x, (2 * torch.arange(levels).double() / (levels - 1) - 1).float())


def test_all_65536_levels_are_recovered_by_index() -> None:
    lattice = Lattice(-1.0, 2 / 65535, 65536)
    k = torch.arange(65536)
    assert torch.equal(lattice.index(lattice.values(k)), k)


def test_values_off_the_lattice_are_refused() -> None:
    lattice = Lattice(-1.0, 2 / 255, 256)
    on = lattice.values(torch.arange(256))
    for off in (on + 0.1 * lattice.width, on.bfloat16(), torch.tensor([-1.0 - 2 / 255]), torch.tensor([math.nan])):
        with pytest.raises(ValueError, match="are off Lattice") as caught:
            lattice.index(off)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="int64"):
        lattice.index(torch.arange(3))


def test_decode_rounds_and_clips() -> None:
    transform = Transform((5,), 256)
    x = torch.tensor([[-3.0, 0.4 * 2 / 255 - 1, 0.6 * 2 / 255 - 1, 1.01, math.inf]])
    assert transform.decode(x).tolist() == [[0, 0, 1, 255, 255]]
    with pytest.raises(ValueError, match="1 of 5 values to decode are NaN"):
        transform.decode(x.where(x < 1, torch.tensor([0.0, 0, 0, math.nan, 0])))


def test_raw_data_of_another_kind_is_refused() -> None:
    transform = Transform((1, 2, 2), 17, "grey")
    with pytest.raises(ValueError, match="values are 0 to 17; allowed: 0 to 16"):
        transform.encode(np.array([[[0, 1], [2, 17]]]))
    with pytest.raises(ValueError, match="float64"):
        transform.encode(np.zeros((1, 2, 2)))
    with pytest.raises(ValueError, match=r"\(1, 3, 2\).*\(2, 2\)"):
        transform.encode(np.zeros((1, 3, 2), np.uint8))


@pytest.mark.parametrize(
    "transform",
    [
        Transform((1, 8, 8), 17, "grey"),
        Transform((3, 4, 5), 65536, "channels_last"),
        Transform((2,), None, mean=(0.1, 1e-300), std=(1 / 3, 2.0)),
    ],
)
def test_json_round_trip(transform: Transform) -> None:
    assert Transform.from_dict(json.loads(json.dumps(transform.to_dict()))) == transform


def test_a_record_of_other_keys_is_refused() -> None:
    record = Transform((2,), 17).to_dict()
    for wrong in ({**record, "colour": 1}, {key: record[key] for key in record if key != "std"}):
        with pytest.raises(ValueError, match="a transform has the keys"):
            Transform.from_dict(wrong)
    with pytest.raises(ValueError, match="unknown layout 'hwc'; known: same, grey, channels_last"):
        Transform.from_dict({**record, "layout": "hwc"})
