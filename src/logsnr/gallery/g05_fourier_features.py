"""Fourier features let a network see half a grey level.

A likelihood counts the last bit as much as the first. At small noise the question is which of two neighbouring values a
pixel has, a change of 2/255 in x, and a network smooth in x cannot answer it. VDM appends sin 2ⁿπz and cos 2ⁿπz to its
input: for 256 levels n = 7 and 8, whose periods are two bins and one.

Data of 8 bits that takes even values alone has 7 bits. With the features a small perceptron finds that out; without
them it needs more than the 8 bits of knowing nothing. "n = 7 and 8" is no constant of nature, as it is often copied: n
follows from the number of levels, 3 and 4 for the 17 of the digits. What they bring there, in a short training, is said
and not judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import logsnr
from logsnr import data, denoiser, likelihood, nets, prediction
from logsnr.gallery import Check, Exhibit, Setting, above, below, mean, standard_error, style

LATTICE = data.Lattice(-1.0, 2 / 255, 256)
PATH = logsnr.Path(logsnr.Linear(-13.3, 5.0), logsnr.vp)
EVEN = LATTICE.values(2 * torch.arange(128)).unsqueeze(1)
LAW = logsnr.finite(EVEN.double())
WITH, WITHOUT = "n = 7, 8", "without"
BATCH, AVERAGED = 1024, 60
NEAR = 2 * math.log(0.6 * LATTICE.width)  # γ at which σ/α is 0.6 bins


class Featured(nn.Module):
    """A perceptron that is shown sin 2ⁿπz and cos 2ⁿπz beside z, and says how ε differs from z."""

    def __init__(self, octaves: Sequence[int]) -> None:
        super().__init__()
        self.octaves = octaves
        self.perceptron = nets.build("mlp-tiny", (1 + 2 * len(octaves),), out_channels=1)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        """z: (B, 1)."""
        seen = torch.cat([z, nets.fourier_features(z, self.octaves)], dim=1) if self.octaves else z
        difference: Tensor = self.perceptron(seen, label)
        return z + difference


def examples(count: int, setting: Setting, step: int) -> Tensor:
    """Even values, all as likely."""
    return EVEN[(setting.draws(count, step).uniform("value") * len(EVEN)).long()]


def trained(octaves: Sequence[int], setting: Setting) -> tuple[logsnr.Denoiser, Tensor]:
    """A model of the even values, and its bits in training, means over `AVERAGED` steps."""
    with torch.random.fork_rng():
        torch.manual_seed(setting.seed)
        network = Featured(octaves)
    model = logsnr.Denoiser(network, PATH, prediction.TARGETS["eps"], label=denoiser.LABELS["time"])
    bound, steps, bits = likelihood.BOUNDS["vdm"](PATH, "small", LATTICE), setting.of(3000, 60), list[float]()
    optimizer = torch.optim.Adam(model.parameters())
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-3 * min(1.0, step / 100, 2 * (1 - step / steps))
        loss = bound.estimate(model, examples(BATCH, setting, step), setting.draws(BATCH, step)).total.mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        bits.append(float(loss.detach()) / math.log(2))
    return model.eval(), torch.tensor(bits).reshape(-1, AVERAGED).mean(1)


def audited(model: logsnr.Denoiser, setting: Setting) -> Tensor:
    """Bits of fresh examples, by batches; (batches,).

    The diffusion loss is 7 bits, which an exact denoiser's never exceeds, and what the model loses to it on the same
    noise: that difference scatters little where each loss scatters by tens of bits.
    """
    bound, size, found = likelihood.BOUNDS["vdm"](PATH, "small", LATTICE), 8192, list[Tensor]()
    for step in range(10**6, 10**6 + setting.of(24, 4)):
        x0, draws = examples(size, setting, step), setting.draws(size, step)
        with torch.no_grad():
            ours, exact = (bound.estimate(each, x0, draws) for each in (model, logsnr.Oracle(LAW)))
        found.append((ours.total - exact.parts["diffusion"]).double().mean())
    return 7 + torch.stack(found) / math.log(2)


def digits(octaves: Sequence[int] | str, setting: Setting) -> Tensor:
    """Bits/dim of each test digit, of VDM with its own network and these n; "auto" are those of the 17 levels."""
    network = {"name": setting.of("vdm-digits", "vdm-tiny"), "fourier": octaves}
    name = "vdm-unet" if octaves == "auto" else "vdm-unet-plain"
    run = setting.trained(name, "vdm", minutes=1.5, settings={"network": network})
    nats = run.bound_nats(data.load("digits", split="test"), seed=setting.seed, repeats=setting.of(16, 1))
    return logsnr.bits_per_dim(nats["total"].double(), 64)


def seen(model: logsnr.Model) -> Tensor:
    """(x̂ − z/α) in bins, for z/α from −4 to 4 bins about the middle, at σ/α = 0.6 bins."""
    z = torch.linspace(-4, 4, 401, dtype=torch.float64).unsqueeze(1) * LATTICE.width + float(EVEN[64])
    level = PATH.at_gamma(torch.full((len(z),), NEAR, dtype=torch.float64))
    with torch.no_grad():
        x0 = model((level.alpha.unsqueeze(1) * z).float(), level).x0
    return ((x0.double() - z) / LATTICE.width).flatten()


@dataclass(frozen=True)
class Found:
    """By "n = 7, 8" and "without": bits in training, bits of fresh batches, what the network sees. digits: by n."""

    training: dict[str, Tensor]
    bits: dict[str, Tensor]
    seen: dict[str, Tensor]
    digits: dict[str, Tensor]


def measure(setting: Setting) -> Found:
    """Two perceptrons on even values, two of VDM's networks on digits."""
    found = {name: trained(octaves, setting) for name, octaves in ((WITH, (7, 8)), (WITHOUT, ()))}
    models = {name: model for name, (model, _) in found.items()}
    return Found(
        {name: bits for name, (_, bits) in found.items()},
        {name: audited(model, setting) for name, model in models.items()},
        {name: seen(model) for name, model in {**models, "exact": logsnr.Oracle(LAW)}.items()},
        {"n = 3, 4": digits("auto", setting), WITHOUT: digits((), setting)},
    )


def checks(found: Found) -> tuple[Check, ...]:
    """7 bits with, more than 8 without; the digits for the record."""
    fine, plain = found.bits[WITH], found.bits[WITHOUT]
    with_n, without = found.digits.values()
    saved = without - with_n
    words = f"{mean(without):.3f} without; saved {mean(saved):+.3f} ± {standard_error(saved):.3f}"
    return (
        below("bits of even values, n = 7, 8 (ideal: 7)", mean(fine), 7.1, standard_error(fine)),
        above("the same without features", mean(plain), 8, standard_error(plain)),
        below(
            f"digits, 17 levels, n = 3, 4, in bits/dim ({words})", mean(with_n), math.log2(17), standard_error(with_n)
        ),
    )


def draw(found: Found, figure: Figure) -> None:
    """What the two networks see, what they need, and the digits."""
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.3, 1.2, 0.8])
    figure.set_size_inches(10.2, 3.8)
    place = torch.linspace(-4, 4, 401)
    colours = {"exact": style.ink(), WITH: "C0", WITHOUT: "C1"}
    for name, colour in colours.items():
        left.plot(place, found.seen[name], "--" if name == "exact" else "-", color=colour, label=name)
    left.set(
        xlabel="z/α, bins from an even value", ylabel="x̂ − z/α in bins", title="which even value? (σ/α = 0.6 bins)"
    )
    left.set_ylim(-0.7, 0.8)
    left.legend(loc="upper center", ncols=3)
    for name in (WITH, WITHOUT):
        curve = found.training[name]
        middle.plot(AVERAGED * (torch.arange(len(curve)) + 1), curve, color=colours[name], alpha=0.8)
        text = f"{name}: {mean(found.bits[name]):.2f} bits"
        middle.annotate(
            text,
            (0.97, mean(found.bits[name]) + 0.3),
            xycoords=("axes fraction", "data"),
            ha="right",
            color=colours[name],
        )
    middle.axhline(7, color=style.ink(), linewidth=1)
    middle.axhline(8, color=style.ink(), linewidth=1, linestyle=":")
    for height, text in ((7, "ideal"), (8, "knowing nothing")):
        middle.annotate(text, (0.03, height), (0, -11), xycoords=("axes fraction", "data"), textcoords="offset points")
    middle.set(xlabel="training step", ylabel="bits of a value", ylim=(6.6, 10), title="8-bit data, even values only")
    for i, bits in enumerate(found.digits.values()):
        right.bar(
            i, mean(bits), color="C0" if i == 0 else "C1", alpha=0.8, yerr=2 * standard_error(bits), ecolor=style.ink()
        )
        right.annotate(
            f"{mean(bits):.3f}",
            (i, mean(bits) + 2 * standard_error(bits)),
            (0, 4),
            textcoords="offset points",
            ha="center",
        )
    right.set_xticks(range(len(found.digits)), list(found.digits))
    right.set(ylabel="bits/dim", title="digits, 17 levels", ylim=(0, 1.15 * max(map(mean, found.digits.values()))))
    right.grid(visible=False, axis="x")


EXHIBIT = Exhibit("VDM, section 4.3, app. C", ("V11", "V3"), measure, checks, draw, Featured, trained=True)
