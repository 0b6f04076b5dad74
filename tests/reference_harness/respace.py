"""Improved DDPM's respaced processes: a coarser grid of the same table, nothing more."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from logsnr.denoiser import index_label
from logsnr.kernels import floored, posterior_log_var, transition_log_var
from logsnr.level import Level

from .parts import IDDPM_BETAS, descending, table
from .reference import Reference
from .schedules import refused


def index_set(steps: int, spec: str) -> Tensor:
    """space_timesteps, for parity only: `ddimN` is an exact stride; `a,b,c` are counts in equal sections of the table.

    Within a section the positions are an accumulated float stride, rounded half to even.
    """
    if spec.startswith("ddim"):
        count = int(spec.removeprefix("ddim"))
        return next(index for stride in range(1, steps) if len(index := torch.arange(0, steps, stride)) == count)
    counts = [int(count) for count in spec.split(",")]
    taken: list[int] = []
    start = 0
    for section, count in enumerate(counts):
        size = steps // len(counts) + (section < steps % len(counts))
        stride, place = (size - 1) / (count - 1) if count > 1 else 1.0, 0.0
        for _ in range(count):
            taken.append(start + round(place))
            place += stride
        start += size
    return torch.tensor(sorted(set(taken)))


def ascending(grid: Level) -> tuple[Level, Level]:
    """(t, s) of a grid's steps, in the order of the originals' buffers."""
    order = torch.arange(len(grid) - 2, -1, -1)
    return grid[order], grid[order + 1]


def respace(reference: Reference) -> None:
    """SpacedDiffusion: `case<i>_T`, `_spec` → `_use_timesteps` and, by table, β, ᾱ and β̃ of the coarser process."""
    for match in reference.keys(r"(case\d+)_spec"):
        case, steps, spec = match[1], reference.number(f"{match[1]}_T"), reference.text(match[0])
        index = index_set(steps, spec)
        reference.check(f"{case}_use_timesteps", index, 0.0)
        for table_match in reference.keys(rf"{case}_([a-z]+)_(betas|error)"):
            beta = IDDPM_BETAS[table_match[1]](steps)
            if table_match[2] == "error":
                refusal(reference, table_match[0], beta, index)
            else:
                spaced(reference, f"{case}_{table_match[1]}", beta, index)
                path = table(beta)
                labels = index_label(path, descending(path, index)[:-1]).flip(0).long()
                reference.check(f"{case}_timestep_map", labels, 0.0)


def spaced(reference: Reference, prefix: str, beta: Tensor, index: Tensor) -> None:
    t, s = ascending(descending(table(beta), index))
    reference.check(f"{prefix}_betas", transition_log_var(t, s).exp(), 1e-12)
    reference.check(f"{prefix}_alphas_cumprod", t.alpha**2, 1e-12)
    reference.check(f"{prefix}_posterior_variance", posterior_log_var(t, s).exp(), 1e-12)


def refusal(reference: Reference, key: str, beta: Tensor, index: Tensor) -> None:
    """Where the original crashed, the library says why: a β of 1 or more, or no step to take the variance from."""
    reference.text(key)
    if beta.max() >= 1:
        refused(beta)
    else:
        with pytest.raises(ValueError, match="one finite level; allowed: at least 2 steps"):
            floored("small", descending(table(beta), index))
