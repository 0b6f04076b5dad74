"""A linearly implicit multistep method for the probability flow, each example with steps of its own.

From data to noise the flow between two modes contracts fast: an explicit method has to take small steps for the sake of
stability alone. An exact divergence costs the whole Jacobian J of v̂, and with J in hand the Adams–Moulton equation

    u_n = u_{n−1} + Σ_j w_j v̂(u_j, φ_j),   w_j = ∫ ℓ_j over the step,

is solved by Newton's method in one round: at the predicted point p,

    (I − w_n J) c = u_{n−1} + Σ_{j<n} w_j v̂_j + w_n v̂(p) − p,    u_n = p + c,   v̂(u_n) = v̂(p) + Jc + O(c²).

One evaluation a node. Nodes, `ORDER` at a time, are those before the step and, at the data end, their mirror images
(`angle`), so that the first step is as accurate as the others.

A step whose |c| is above the tolerance is not thrown away: a node is put in its middle, predicted from both sides, and
the step is solved again with it. So few evaluations are wasted and the nodes lie where the flow bends.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from logsnr.angle import at_angle
from logsnr.lagrange import integrals
from logsnr.level import over
from logsnr.likelihood.field import Field, Velocity
from logsnr.path import Path

ORDER = 4
FIRST_STEP, MOST_STEP = 0.1, 0.2  # radians
MOST_GROWTH, LEAST_GROWTH, SAFETY = 1.7, 0.5, 0.9
SHARP = 10.0  # |s| from which a tolerance of u is one of the density's width
KEPT = 0.6  # nats/dim in tolerances that the end of a halved step may be corrected by
MIRRORED = 0.25  # where |v̂| at the lowest level is below so much of |u|, the data is smooth there


@dataclass
class Nodes:
    """What is known of N nodes of each example.

    phi: (B, N) float64. u, v, s: (B, N, D) state, velocity and score there. div: (B, N) float64, ∇·v̂ where it was
    evaluated; away: (B, N, D) what u is from there (the c of the last Newton round); lift: (B, N) float64, s·Jc.
    """

    phi: Tensor
    u: Tensor
    v: Tensor
    s: Tensor
    away: Tensor
    div: Tensor
    lift: Tensor

    @classmethod
    def empty(cls, u: Tensor, count: int) -> Nodes:
        """Room for `count` nodes of examples u (B, D)."""
        numbers = torch.zeros(len(u), count, dtype=torch.float64)
        arrays = u.new_zeros(len(u), count, u.shape[1])
        return cls(numbers, arrays, arrays.clone(), arrays.clone(), arrays.clone(), numbers.clone(), numbers.clone())

    def put(self, index: Tensor, rows: Tensor, **values: Tensor) -> None:
        """Values (B, …) of node index (B,) of each example, for the examples `rows` (B,) bool alone."""
        chosen = rows.nonzero().squeeze(1)
        for name, value in values.items():
            array = getattr(self, name)
            where = chosen.to(array.device)
            array[where, index[chosen].to(array.device)] = value[where.to(value.device)].to(array)

    def grown(self) -> Nodes:
        """The same with twice the room."""
        pairs = ((getattr(self, f.name), f.name) for f in fields(self))
        return Nodes(**{name: torch.cat([array, torch.zeros_like(array)], 1) for array, name in pairs})


def gathered(array: Tensor, index: Tensor) -> Tensor:
    """array (B, N, …) at index (B, k): (B, k, …)."""
    rows = torch.arange(len(array), device=array.device).unsqueeze(1)
    return array[rows, index.to(array.device)]


@dataclass
class Raw:
    """An evaluation before it is corrected: v̂ and J at u (B, D) and φ (B,)."""

    phi: Tensor
    u: Tensor
    v: Tensor
    jacobian: Tensor

    @property
    def div(self) -> Tensor:
        """∇·v̂, (B,) float64."""
        return self.jacobian.diagonal(dim1=1, dim2=2).sum(1).cpu().double()

    def where(self, rows: Tensor, other: Raw) -> Raw:
        """This for the examples `rows` (B,) bool, `other` for the rest."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Raw(*(torch.where(rows.to(a.device).reshape(-1, *(1,) * (a.ndim - 1)), a, b) for a, b in pairs))


class Sweep:
    """The nodes of one solution between two angles, () each, from u (B, D). tolerance: on |c|, root mean square.

    ArithmeticError after `most` evaluations.
    """

    def __init__(
        self, field: Field, path: Path, u: Tensor, ends: tuple[Tensor, Tensor], tolerance: float, most: int
    ) -> None:
        start, end = ends
        self.field, self.path, self.end, self.tolerance = field, path, end, tolerance
        phi = start.expand(len(u)).clone()
        raw = self._evaluate(phi, u)
        self.count = torch.ones(len(u), dtype=torch.int64)
        self.evaluations = torch.ones_like(self.count)
        self.nodes = Nodes.empty(u, 64)
        self._finish(torch.zeros_like(self.count), raw, torch.zeros_like(u), torch.ones(len(u), dtype=torch.bool))
        steepness = (raw.v.pow(2).mean(1) / u.pow(2).mean(1)).sqrt().cpu().double()
        self.mirrored = steepness < MIRRORED
        # where mirror images stand for a history the first step may be as long as the data is smooth
        self.size = (0.5 * torch.tan(start) / steepness.clamp(min=1e-12)).clamp(max=FIRST_STEP)
        self.size = torch.where(self.mirrored, self.size, 0.1 * self.size)
        self.halved = torch.zeros(len(u), dtype=torch.bool)  # the next node is the middle of a step
        self.pending = raw
        for _ in range(most):
            active = gathered(self.nodes.phi, self.count.unsqueeze(1) - 1).squeeze(1) < self.end
            if not active.any():
                return
            self._advance(active)
        raise ArithmeticError(f"{most} evaluations did not reach tolerance {tolerance}")

    def _evaluate(self, phi: Tensor, u: Tensor) -> Raw:
        found: Velocity = self.field.jacobian(u, at_angle(self.path, phi))
        return Raw(phi, u, found.value, found.jacobian)

    def _advance(self, active: Tensor) -> None:
        """One evaluation of each example that is active; the others are carried along."""
        if int(self.count.max()) + 2 > self.nodes.phi.shape[1]:
            self.nodes = self.nodes.grown()
        new, halved = self.count.clone(), self.halved & active
        last = gathered(self.nodes.phi, new.unsqueeze(1) - 1).squeeze(1)
        phi = torch.where(halved, 0.5 * (last + self.pending.phi), self._reach(last))
        phi = torch.where(active, phi, self.end)
        raw = self._evaluate(phi, self._predicted(new, phi, halved.long()))
        self.evaluations += active
        # a pending node makes room for the middle
        self.nodes.put(new + 1, halved, phi=self.pending.phi, v=gathered(self.nodes.v, new.unsqueeze(1)).squeeze(1))
        self.nodes.put(new, active, phi=phi)
        c = self._correction(new, new + halved.long(), raw, active)
        off = self._off(raw, c)
        close = active & (off <= self.tolerance)
        self._finish(new, raw, c, active)
        # the step that was halved, solved again: where it is far off still, its end is to be evaluated anew
        again = self._correction(new + 1, new + 1, self.pending, halved)
        self._finish(new + 1, self.pending, again, halved)
        kept = halved & close & (self._cost(new + 1) <= KEPT * self.tolerance)
        refused = active & ~halved & ~close
        self.pending = raw.where(refused, self.pending)
        self.count = new + close.long() + kept.long()
        growth = SAFETY * (self.tolerance / off.clamp(min=1e-300)) ** (1 / (ORDER + 1))
        growth = growth.clamp(LEAST_GROWTH, MOST_GROWTH)
        # a middle that is itself far off is given up with its step, and a quarter of it tried
        growth = torch.where(halved, torch.where(close, 1.0, 0.5), growth)
        self.size = torch.where(active & ~refused, (phi - last) * growth, self.size)
        self.halved = refused

    def _reach(self, last: Tensor) -> Tensor:
        """Where the next step ends; two equal steps where one would leave a small rest."""
        left, size = self.end - last, self.size.clamp(max=MOST_STEP)
        return torch.where(size >= left, self.end, last + torch.where(size > left / 2, left / 2, size))

    def _window(self, last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The ORDER nodes that end with number `last` (B,): |index|, which there are, and ±1; (B, ORDER) each."""
        index = last.unsqueeze(1) - ORDER + 1 + torch.arange(ORDER)
        present = (index >= 0) | (self.mirrored.unsqueeze(1) & (-index <= last.unsqueeze(1)))
        return torch.where(present, index.abs(), 0), present, torch.where(index < 0, -1.0, 1.0).double()

    def _predicted(self, new: Tensor, phi: Tensor, later: Tensor) -> Tensor:
        """u at φ from the nodes before number `new`, and with `later` = 1 the one that is pending there, (B, D)."""
        index, present, sign = self._window(new - 1 + later)
        nodes = sign * gathered(self.nodes.phi, index)
        before = new.unsqueeze(1) - 1
        weight = sign * integrals(nodes, present, gathered(self.nodes.phi, before).squeeze(1), phi)
        return gathered(self.nodes.u, before).squeeze(1) + self._sum(weight, gathered(self.nodes.v, index))

    def _correction(self, number: Tensor, last: Tensor, raw: Raw, rows: Tensor) -> Tensor:
        """Newton's c at node `number` (B,), of polynomials through the nodes up to `last` (B,); (B, D).

        Of the examples `rows` (B,) bool; what it is of the others does not matter, but that it is a number.
        """
        index, present, sign = self._window(last)
        nodes = sign * gathered(self.nodes.phi, index)
        low, high = (gathered(self.nodes.phi, i.unsqueeze(1)).squeeze(1) for i in (number - 1, number))
        weight = torch.where(rows.unsqueeze(1), sign * integrals(nodes, present, low, high), 0.0)
        own = index == number.unsqueeze(1)
        implicit = (weight * (own & present)).sum(1)
        others = self._sum(torch.where(own, 0.0, weight), gathered(self.nodes.v, index))
        rest = (
            gathered(self.nodes.u, number.unsqueeze(1) - 1).squeeze(1) + others + over(implicit, raw.v) * raw.v - raw.u
        )
        matrix = torch.eye(raw.u.shape[1]).to(raw.u) - over(implicit, raw.jacobian) * raw.jacobian
        return torch.linalg.solve(matrix, rest)

    def _finish(self, number: Tensor, raw: Raw, c: Tensor, rows: Tensor) -> None:
        """Node `number` (B,) of the examples `rows` from an evaluation and its correction."""
        jc = torch.einsum("bij,bj->bi", raw.jacobian, c)
        u, v = raw.u + c, raw.v + jc
        s = -u - v / over(torch.tan(raw.phi), v)
        lift = (s * jc).sum(1)
        self.nodes.put(number, rows, phi=raw.phi, u=u, v=v, s=s, away=c, div=raw.div, lift=lift)

    def _cost(self, number: Tensor) -> Tensor:
        """What moving a node from where it was evaluated adds to its step's integral (`adjoint`), nats/dim, (B,)."""
        pair = torch.stack([number - 1, number], 1)
        phi, s = (gathered(array, pair).diff(dim=1).squeeze(1) for array in (self.nodes.phi, self.nodes.s))
        index = number.unsqueeze(1)
        away, lift = (gathered(array, index).squeeze(1) for array in (self.nodes.away, self.nodes.lift))
        return ((s * away).sum(1).cpu().double() + phi * lift).abs() / s.shape[1]

    def _off(self, raw: Raw, c: Tensor) -> Tensor:
        """|c|, root mean square, (B,): in units of `SHARP` times the density's width 1/|s| where that is below 1."""
        s = raw.u + raw.v / over(torch.tan(raw.phi), raw.v)
        sharpness = s.pow(2).mean(1) / SHARP**2
        return (c.pow(2).mean(1) * sharpness.clamp(min=1)).sqrt().cpu().double()

    @staticmethod
    def _sum(weight: Tensor, values: Tensor) -> Tensor:
        return torch.einsum("bk,bkd->bd", weight.to(values), values)
