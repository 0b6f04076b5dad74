"""Importance sampling of t by the second moment of the loss (I4; Improved DDPM, section 3.3).

    p_t ∝ √E[L_t²],   weight 1/(T p_t)

is the law that gives a sum of T terms the least variance when one term is drawn. The terms of L_vlb differ by orders of
magnitude, so drawing them alike makes its gradient noisy (for L_hybrid the paper saw no gain).
"""

from __future__ import annotations

import torch
from torch import Tensor

from logsnr.draws import Draws
from logsnr.objectives.times import TimeLaw, Times
from logsnr.schedules import NoiseSchedule

BINS = 100  # of [t_min, 1] where there is no table


class LossSecondMoment(TimeLaw):
    """p_t = (1 − u) √E[L_t²]/Σ + u/T from the last few losses of every t; uniform until each t has a full history.

    On a table each knot has a history; a continuous schedule is cut into 100 equal intervals, t uniform within.
    history_per_term: losses remembered for each t. uniform_prob: u, so that no t dies out. stratified: see `Uniform`.
    The history is in buffers: checkpoints keep it, and `observe` sees the losses of all ranks in global order.
    """

    history: Tensor
    seen: Tensor

    def __init__(
        self,
        schedule: NoiseSchedule,
        *,
        history_per_term: int = 10,
        uniform_prob: float = 0.001,
        stratified: bool = True,
    ) -> None:
        super().__init__()
        if history_per_term < 1 or not 0 <= uniform_prob <= 1:
            raise ValueError(
                f"history_per_term = {history_per_term}, uniform_prob = {uniform_prob}; allowed: at least 1, 0 to 1"
            )
        self.steps, self.t_min = schedule.steps, schedule.t_min
        self.uniform_prob, self.stratified = uniform_prob, stratified
        bins = schedule.steps or BINS
        self.register_buffer("history", torch.zeros(bins, int(history_per_term), dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(bins, dtype=torch.int64))

    @property
    def full(self) -> bool:
        """Whether every t has a whole history, so that the law is no longer uniform."""
        return bool((self.seen >= self.history.shape[1]).all())

    def chances(self) -> Tensor:
        """p_t, (T,) float64, summing to 1."""
        root = (self.history**2).mean(1).sqrt().cpu()
        uniform = torch.full_like(root, 1 / len(root))
        if not self.full or not root.sum() > 0:
            return uniform
        return (1 - self.uniform_prob) * root / root.sum() + self.uniform_prob * uniform

    def draw(self, draws: Draws) -> Times:
        u = draws.stratified("t") if self.stratified else draws.uniform("t")
        chances = self.chances().to(u.device)
        ends = chances.cumsum(0)
        chosen = torch.searchsorted(ends, u, right=True).clamp(max=len(ends) - 1)
        if self.steps:
            t = (chosen + 1).double() / self.steps
        else:
            # where u lies within its own interval is uniform again
            within = ((u - ends[chosen] + chances[chosen]) / chances[chosen]).clamp(0, 1)
            t = self.t_min + (1 - self.t_min) * (chosen + within) / len(ends)
        return Times(t, 1 / (len(ends) * chances[chosen]))

    def observe(self, times: Tensor, losses: Tensor) -> None:
        """Remember the last losses of every t, oldest first out: order within a batch is its global order."""
        times, losses = times.to(self.history.device).double(), losses.to(self.history)
        bins, keep = self.history.shape
        if self.steps:
            place = (times * bins).round().long() - 1
        else:
            place = ((times - self.t_min) / (1 - self.t_min) * bins).long()
        place, order = place.clamp(0, bins - 1).sort(stable=True)
        count = torch.bincount(place, minlength=bins)
        nth = torch.arange(len(place), device=place.device) - torch.searchsorted(place, place)
        last = nth >= count[place] - keep  # the rest of a long row of equal t is forgotten within this very batch
        slot = (self.seen[place] + nth) % keep
        self.history[place[last], slot[last]] = losses[order][last]
        self.seen += count
