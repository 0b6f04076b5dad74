"""Weights of polynomials through nodes that differ from row to row."""

from __future__ import annotations

import torch

from logsnr.lagrange import integrals, slopes

NODES = torch.tensor([[0.1, 0.4, 0.45, 1.3], [2.0, -1.0, 0.5, 0.7]], dtype=torch.float64)
ALL = torch.ones_like(NODES, dtype=torch.bool)


def test_polynomials_of_the_degree_are_integrated_exactly_and_the_next_is_not() -> None:
    low, high = torch.tensor([0.2, -0.3], dtype=torch.float64), torch.tensor([1.1, 0.9], dtype=torch.float64)
    for degree in range(5):
        found = (integrals(NODES, ALL, low, high) * NODES**degree).sum(1)
        exact = (high ** (degree + 1) - low ** (degree + 1)) / (degree + 1)
        assert torch.allclose(found, exact, rtol=1e-13) == (degree < 4)


def test_a_node_that_is_not_there_leaves_the_polynomial_of_the_others() -> None:
    low, high = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    present = torch.tensor([[True, False, True, True], [True, True, True, False]])
    weights = integrals(NODES, present, low, high)
    for row in range(2):
        alone = NODES[row : row + 1, present[row]]
        expected = integrals(alone, torch.ones_like(alone, dtype=torch.bool), low[:1], high[:1])
        assert torch.allclose(weights[row, present[row]], expected[0], rtol=1e-13)
        assert (weights[row, ~present[row]] == 0).all()


def test_slopes_at_a_node_are_those_of_the_polynomial() -> None:
    at = torch.tensor([2, 0])
    place = NODES.gather(1, at.unsqueeze(1)).squeeze(1)
    for degree in range(5):
        found = (slopes(NODES, ALL, at) * NODES**degree).sum(1)
        exact = degree * place ** (degree - 1) if degree else torch.zeros_like(place)
        assert torch.allclose(found, exact, rtol=1e-12, atol=1e-12) == (degree < 4)
    present = torch.tensor([[True, False, True, True], [True, True, True, False]])
    found = (slopes(NODES, present, at) * NODES**2).sum(1)
    assert torch.allclose(found, 2 * place, rtol=1e-12)
