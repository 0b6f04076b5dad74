"""A ten-second check of an installation: closed forms that hold on any machine, on the device it will use."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

import torch

from logsnr.betas import linear
from logsnr.data.toys import gaussian, point
from logsnr.draws import philox
from logsnr.nets import native
from logsnr.nets.layers import Conv2d, normalised
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import TARGETS, Prediction
from logsnr.samplers import DDIM, Ancestral, prior, seeded, simulate
from logsnr.scales import SCALES, vp
from logsnr.schedules import BetaLinear, Linear, table_of_betas


@dataclass(frozen=True)
class Check:
    """error must not exceed bar."""

    name: str
    error: float
    bar: float

    @property
    def ok(self) -> bool:
        """False for NaN too."""
        return self.error <= self.bar


def versions() -> dict[str, str]:
    """Of Python and of what the library stands on."""
    names = ("torch", "numpy", "safetensors", "pillow", "pyyaml", "matplotlib")
    return {"python": platform.python_version(), "system": platform.platform(), **{n: version(n) for n in names}}


def checks(device: torch.device) -> Iterator[Check]:
    """Each check, when it is done."""
    zero = torch.zeros(1, dtype=torch.int64)
    known = (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    words = philox((zero, zero, zero, zero), (0, 0))
    yield Check("Philox4x32-10 known answer", float(sum(int(w) != k for w, k in zip(words, known, strict=True))), 0)
    alpha_bar = float(table_of_betas(linear(1000))(torch.ones((), dtype=torch.float64)).neg().sigmoid())
    yield Check("DDPM's terminal ᾱ = 4.03583e-5", abs(alpha_bar / 4.03583e-5 - 1), 1e-5)
    yield Check("targets: x0 → value → x0", _round_trip(), 1e-10)
    index, like = torch.arange(64), torch.empty(64, 3, 4, 4, device=device)
    noise = seeded(0, index, like)
    for name, scale in SCALES.items():
        path = Path(BetaLinear(), vp) if name == "vp" else Path(Linear(-12.0, 6.0), scale)
        target = point(torch.linspace(-1, 1, 48, dtype=torch.float64).reshape(3, 4, 4))
        for sampler in (DDIM(), Ancestral()):
            *_, last = simulate(sampler, Oracle(target), prior(path, noise), path.grid(25), noise=noise)
            error = float((last.x.cpu() - target.means[0].float()).abs().max())
            yield Check(f"{type(sampler).__name__} on {name} returns the only point there is", error, 1e-6)
    if device.type == "cpu" and native.library() is not None:
        yield Check("kernels in C: group norm and SiLU, 3 × 3 convolutions", _kernels_error(), 0.02)
    ratio = _flow_error(device, 250) / _flow_error(device, 500)
    yield Check("DDIM on a Gaussian: its order of convergence is 1", abs(math.log2(ratio) - 1), 0.1)


def _kernels_error() -> float:
    """The greatest relative error of a group norm and a convolution in bfloat16, beside float32."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 32, 8, 8, generator=generator).bfloat16().contiguous(memory_format=torch.channels_last)
    norm, layer = torch.nn.GroupNorm(8, 32), Conv2d(32, 32, 3, padding=1)
    layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.no_grad():
        exact = (torch.nn.functional.silu(norm(x.float())), layer(x.float()))
        with torch.autocast("cpu", torch.bfloat16):
            found = (normalised(norm, x), layer(x))
        errors = [float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)]
    return max(errors)


def _round_trip() -> float:
    path, worst = Path(Linear(-20.0, 20.0), vp), 0.0
    level = path.at(torch.linspace(0, 1, 41, dtype=torch.float64))
    x0, eps = torch.linspace(-1, 1, 41, dtype=torch.float64), torch.linspace(2, -2, 41, dtype=torch.float64)
    for name, target in TARGETS.items():
        if name == "score":  # its values reach 2e4 here: the same digits, another unit
            continue
        a, b = direction = target(level)
        prediction = Prediction(level.perturb(x0, eps), level, direction, a * x0 + b * eps)
        worst = max(worst, float((prediction.x0 - x0).abs().max()), float((prediction.eps - eps).abs().max()))
    return worst


def _flow_error(device: torch.device, steps: int) -> float:
    """DDIM's distance from the exact flow of N(m, v), x ↦ α' m + (std'/std)(x − α m)."""
    law = gaussian(torch.full((2,), 0.5), 0.25)
    path = Path(Linear(-12.0, 6.0), vp)
    noise = seeded(1, torch.arange(64), torch.empty(64, 2, device=device))
    x, grid = prior(path, noise), path.grid(steps, end="lowest")
    *_, last = simulate(DDIM(), Oracle(law), x, grid, noise=noise)
    top, low = grid[0], grid[-1]
    std = [torch.sqrt(level.alpha**2 * 0.25 + level.sigma**2) for level in (top, low)]
    exact = float(low.alpha) * 0.5 + float(std[1] / std[0]) * (x - float(top.alpha) * 0.5)
    return float((last.x - exact).abs().max())
