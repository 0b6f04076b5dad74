"""AdamW and the law of its learning rate (Kingma & Ba 2015; Loshchilov & Hutter 2019).

Weight decay acts on matrices and filters only: pulling gains and biases to zero regularises nothing. The
learning rate is a function of the step and, where a run has so many minutes and nobody knows how many steps these
are, of the share of its time that is spent; so a resumed run needs no scheduler state. At a constant rate the weights
wander about what they are learning, which averaging mends in part; a cooldown at the end of any length of constant
rate ends where a law made for that length would have (Hägele et al. 2024).

The optimiser's own state is flattened to `exp_avg.<parameter>`, `exp_avg_sq.<parameter>`, `step.<parameter>`, which any
tool that reads safetensors can show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from logsnr.train.engine import sharded
from logsnr.train.names import canonical, listed, placed

DECAYS: Mapping[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1.0 - progress,
}

_FUSED_DEVICES = frozenset({"cpu", "cuda", "mps", "xpu"})


def learning_rate(
    step: int,
    spent: float = 0.0,
    *,
    base: float,
    warmup_steps: int = 0,
    total_steps: int | None = None,
    decay: str = "constant",
    cooldown: float = 0.0,
) -> float:
    """The rate of the update that follows `step` finished ones.

    It rises linearly, base · (step + 1) / warmup_steps, to `base` at the last warm-up step, then falls by the
    named law of progress = (step − warmup_steps) / (total_steps − warmup_steps) and is zero at total_steps,
    when the run is over: no update is wasted at either end. Besides it falls to zero linearly in the last part
    `cooldown` of the run, by (1 − over) / cooldown, where over is the greater of `spent`, the share of its time, and
    step / total_steps, if there is such a limit. ValueError for an unknown law or one without its total_steps.
    """
    if decay not in DECAYS:
        raise ValueError(f"unknown learning-rate decay {decay!r}; known: {', '.join(DECAYS)}")
    if cooldown:
        over = max(spent, step / total_steps) if total_steps else spent
        base *= min(1.0, max(0.0, 1.0 - over) / cooldown)
    if step < warmup_steps:
        return base * (step + 1) / warmup_steps
    if decay == "constant":
        return base
    if total_steps is None or total_steps <= warmup_steps:
        raise ValueError(f"decay {decay!r} needs total_steps > warmup_steps {warmup_steps}, not {total_steps}")
    return base * DECAYS[decay](min(1.0, (step - warmup_steps) / (total_steps - warmup_steps)))


def adamw(
    module: nn.Module,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.0,
    eps: float = 1e-8,
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; those with fewer than two dimensions are not decayed."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("there is nothing to train: no parameter requires a gradient")
    kinds = sorted({sharded(p) for p in parameters})  # one kernel does not take both
    groups = [
        {"params": [p for p in parameters if (p.ndim >= 2) is decayed and sharded(p) is kind], "weight_decay": decay}
        for kind in kinds
        for decayed, decay in ((True, weight_decay), (False, 0.0))
    ]
    fused = all(p.device.type in _FUSED_DEVICES for p in parameters)
    kernel = {"fused": True} if fused else {"foreach": True}
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=betas, eps=eps, **kernel)


def optimizer_tensors(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """The optimiser's live state by name, `<entry>.<parameter>`; parameters never updated have none."""
    return {
        f"{entry}.{canonical(name)}": value
        for name, parameter in module.named_parameters()
        for entry, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Replace the optimiser's state by copies of saved tensors; ValueError names what fits no parameter."""
    packed = optimizer.state_dict()
    indices = [index for group in packed["param_groups"] for index in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    index_of = dict(zip(map(id, parameters), indices, strict=True))
    place = {canonical(n): (index_of[id(p)], p) for n, p in module.named_parameters() if id(p) in index_of}
    state: dict[int, dict[str, Tensor]] = {}
    strangers = []
    for full_name, tensor in tensors.items():
        entry, _, name = full_name.partition(".")
        if name not in place or (tensor.ndim and tensor.shape != place[name][1].shape):
            strangers.append(full_name)
        else:
            # in the parameter's own order in memory, which the fused kernels want
            like = place[name][1] if tensor.ndim else tensor
            room = torch.empty_like(like, dtype=tensor.dtype)
            state.setdefault(place[name][0], {})[entry] = room.copy_(placed(tensor, room))
    if strangers:
        raise ValueError(f"optimizer: state that fits no parameter: {listed(strangers)}")
    optimizer.load_state_dict({"state": state, "param_groups": packed["param_groups"]})
