"""The accounting of an audit, on records whose law is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from logsnr.likelihood.audit import Order, Records, Units, curve, figure, orders, summary, triangulation
from logsnr.report.audit import auroc, extremes, foreign, per_class, typicality

BITS = Units(4, discrete=True)


def records(total: torch.Tensor, name: str = "vlb(8)", solver: float | None = None) -> Records:
    """All of (R, N) nats in the diffusion part, half of it at each of two levels."""
    gamma = torch.tensor([-2.0, 3.0], dtype=torch.float64).expand(*total.shape, 2)
    errors = {} if solver is None else {"solver": torch.full_like(total, solver)}
    parts = {"prior": torch.zeros_like(total), "diffusion": total}
    return Records(name, parts, torch.ones_like(total).long(), gamma, total.unsqueeze(2).expand(-1, -1, 2) / 2, errors)


def test_each_standard_error_is_that_of_its_own_question() -> None:
    """Examples scatter by 2, repeats by 3 more: over many audits the figures scatter as they say."""
    random, count, repeats, audits = np.random.default_rng(0), 40, 5, 400
    of_examples, of_noise, means, fixed = [], [], [], []
    known = 10 + 2 * random.standard_normal(count)
    for _ in range(audits):
        drawn = 10 + 2 * random.standard_normal(count)
        found = figure(torch.from_numpy(drawn + 3 * random.standard_normal((repeats, count))), BITS)
        again = figure(torch.from_numpy(known + 3 * random.standard_normal((repeats, count))), BITS)
        of_examples.append(found["standard_error_bits_per_dim"])
        of_noise.append(again["monte_carlo_standard_error_bits_per_dim"])
        means.append(found["bits_per_dim"])
        fixed.append(again["bits_per_dim"])
    assert np.mean(of_examples) == pytest.approx(np.std(means), rel=0.1)
    assert np.sqrt(np.mean(np.square(of_noise))) == pytest.approx(np.std(fixed), rel=0.1)
    assert np.mean(means) == pytest.approx(10 / (4 * math.log(2)), rel=0.01)
    alone = figure(torch.ones(1, 3, dtype=torch.float64), BITS)
    assert alone["monte_carlo_standard_error_bits_per_dim"] is None


def test_what_was_read_at_pure_noise_stands_in_the_last_bin() -> None:
    gamma = torch.tensor([[[-2.0], [3.0], [math.inf]]], dtype=torch.float64)
    nats = torch.tensor([[[1.0], [2.0], [6.0]]], dtype=torch.float64)
    found = Records("vlb(3)", {"prior": nats[..., 0], "diffusion": nats[..., 0]}, nats[..., 0], gamma, nats, {})
    drawn = curve(found, Units(1, discrete=False), bins=2)
    assert drawn["log_snr_edges"] == [2.0, -0.5, -3.0]
    assert drawn["nats_per_dim"] == pytest.approx([1 / 3, 8 / 3])
    alone = curve(
        Records("vlb(2)", found.parts, nats[..., 0], torch.full_like(gamma, math.inf), nats, {}), BITS, bins=2
    )
    assert all(map(math.isfinite, alone["log_snr_edges"]))
    assert sum(alone["bits_per_dim"]) == pytest.approx(BITS.per_dim(3.0))


def test_bins_of_the_curve_sum_to_its_part() -> None:
    found = curve(records(torch.rand(3, 20, dtype=torch.float64)), BITS, bins=5)
    whole = summary(records(torch.full((2, 6), 4 * math.log(2), dtype=torch.float64)), BITS)
    assert sum(whole["curve"]["bits_per_dim"]) == pytest.approx(1.0, rel=1e-12)
    assert [value > 0 for value in found["bits_per_dim"]] == [True, False, False, False, True]
    assert found["log_snr_edges"][0] == 2.0
    assert found["log_snr_edges"][-1] == -3.0


def test_units_of_continuous_data_are_a_part_of_their_own() -> None:
    found = summary(records(torch.full((1, 5), 8.0, dtype=torch.float64)), Units(4, False, -0.5))
    assert found["total"]["nats_per_dim"] == pytest.approx(2 - 0.5)
    assert found["parts"]["units"]["nats"] == pytest.approx(-2.0)


@pytest.mark.parametrize(("shift", "holds"), [(0.0, True), (-0.2, True), (0.2, True), (1.0, False)])
def test_an_ordering_is_violated_beyond_three_paired_standard_errors(shift: float, holds: bool) -> None:
    """lower − upper scatters by 1 over 100 examples: 3 s.e. are 0.3; what examples have in common does not count."""
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal(100))
    noise = (noise - noise.mean()) / noise.std()
    common = 50 * torch.from_numpy(np.random.default_rng(1).standard_normal(100))
    found = {
        "a": records((common + noise + shift).unsqueeze(0), "iwae(2) of vlb(8)"),
        "b": records(common.unsqueeze(0)),
    }
    (row,) = triangulation(found, [Order("a", "b", "must", "Jensen")], BITS)
    assert row["holds"] == holds
    assert row["difference_bits_per_dim"] == pytest.approx(-shift / (4 * math.log(2)), abs=1e-9)
    found["a"] = records((common + noise + shift).unsqueeze(0), solver=2.0)
    assert triangulation(found, [Order("a", "b", "must", "")], BITS)[0]["holds"]  # within the solver's own error
    found["a"] = records((common + noise - shift).unsqueeze(0))
    (row,) = triangulation(found, [Order("a", "b", "same", "")], BITS)
    assert row["holds"] == holds  # of one quantity both signs are a violation


def test_which_orderings_theory_demands() -> None:
    names = {
        "vlb": "vlb(8)", "vlb_inf": "vlb(inf)", "iwae": "iwae(4) of vlb(8)", "ode": "ode(uniform)",
        "more": "ode(uniform, 8 draws)", "again": "vlb(8)",
    }  # fmt: skip
    found = {(order.lower, order.upper): order.kind for order in orders(names)}
    assert found["iwae", "vlb"] == found["iwae", "again"] == "must"
    assert found["more", "ode"] == "must"
    assert found["again", "vlb"] == "same"
    assert ("vlb", "again") not in found
    assert found["vlb_inf", "vlb"] == found["ode", "vlb"] == found["ode", "vlb_inf"] == "optimal"
    assert ("iwae", "vlb_inf") not in found


def test_p_values_are_uniform_on_the_same_law_and_small_on_another() -> None:
    random = np.random.default_rng(0)
    p = np.concatenate([typicality(random.standard_normal(99), random.standard_normal(50)) for _ in range(200)])
    for level in (0.05, 0.2, 0.5):
        assert (p <= level).mean() == pytest.approx(level, abs=0.015)
    assert typicality(random.standard_normal(99), np.array([9.0, -9.0])).tolist() == [0.01, 0.01]
    inside = random.standard_normal(400)
    easy = foreign(inside, 0.01 * random.standard_normal(200) - 5, seed=0)
    assert easy["auroc_likelihood"] == 0.0  # more likely than the data itself, and yet
    assert easy["auroc_typicality"] == 1.0
    assert easy["flagged_at_5_percent_outside"] == 1.0
    assert easy["flagged_at_5_percent_inside"] < 0.12


def test_auroc_counts_pairs_and_halves_ties() -> None:
    inside, outside = np.array([1.0, 2.0, 2.0]), np.array([2.0, 3.0])
    pairs = [0.5 * (b == a) + (b > a) for a in inside for b in outside]
    assert auroc(inside, outside) == pytest.approx(np.mean(pairs))


def test_classes_and_extremes() -> None:
    values, labels = np.array([1.0, 2.0, 3.0, 9.0]), np.array([0, 0, 0, 2])
    first, second = per_class(values, labels, ["a", "b", "c"])
    assert (first["class"], first["mean"], first["standard_error"]) == ("a", 2.0, pytest.approx(1 / math.sqrt(3)))
    assert (second["class"], second["examples"], second["standard_error"]) == ("c", 1, None)
    hardest, easiest = extremes(values, 5)
    assert hardest.tolist() == [3, 2]
    assert easiest.tolist() == [0, 1]
