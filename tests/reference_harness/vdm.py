"""google-research/vdm: γ, the three losses, the decoder, features, the sampler and the U-Net. Images are NHWC there."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from logsnr.data.toys import Mixture
from logsnr.data.transform import Lattice
from logsnr.decoders import softmax, softmax_log_prob
from logsnr.denoiser import Denoiser, gamma_label
from logsnr.kernels import Normal
from logsnr.level import Level, over
from logsnr.monotone import Monotone, inverse_softplus
from logsnr.nets import VDMUNet, fourier_features, positional
from logsnr.objectives import VDM, WEIGHTS, Setting
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import eps
from logsnr.samplers import Ancestral
from logsnr.scales import vp
from logsnr.schedules import Learned, Linear, NoiseSchedule

from .parts import Recorded, law, states, tape, walk
from .reference import Reference

TOLERANCE = 1e-9


def network(reference: Reference) -> tuple[Monotone, float]:
    """Their γ network and what it has beyond ours, a constant: |kernels|, l₂ at 2t − 1, l₃ of 2φ − 1 over 1024."""
    first, second, third = (reference.read(f"nnet_l{i}_kernel").abs().flatten() for i in (1, 2, 3))
    net = Monotone(len(second)).double()
    with torch.no_grad():
        net.weight1.copy_(inverse_softplus(first[0]))
        net.weight2.copy_(inverse_softplus(2 * second))
        net.bias2.copy_(reference.read("nnet_l2_bias") - second)
        net.weight3.copy_(inverse_softplus(2 * third * len(second) / 1024))
    return net, float(reference.read("nnet_l1_bias") - third.sum() / 1024)


def line(slope: Tensor, offset: Tensor) -> Learned:
    """offset + |slope| t, both of shape (1,)."""
    return Learned(None, float(offset), float(offset + slope.abs())).double()


def schedules(reference: Reference) -> dict[str, NoiseSchedule]:
    """By their names. Their network is not held at γ_min and γ_max: its ends are wherever γ̃ has them."""
    net, constant = network(reference)
    with torch.no_grad():
        low, high = (net(torch.tensor([0.0, 1.0], dtype=torch.float64)) + constant).tolist()
    return {
        "fixed": Linear(float(reference.read("gamma_min")), float(reference.read("gamma_max"))),
        "learnable_scalar": line(reference.read("scalar_w"), reference.read("scalar_b")),
        "learnable_nnet": Learned(net, low, high).double(),
    }


def gamma(reference: Reference) -> None:
    """NoiseSchedule_*: γ, its derivative and its ends; of the network also γ̃ itself; 1e-10."""
    t, known = reference.read("t"), schedules(reference)
    for name, schedule in known.items():
        value, slope = Path(schedule, vp).moving(t, lambda seen: seen)
        reference.check(f"{name}_gamma", value.gamma, 1e-10)
        reference.check(f"{name}_dgamma_dt", slope, 1e-10)
        for end in (0, 1):
            single = schedule(torch.full(reference.recorded(f"{name}_gamma_scalar{end}").shape, float(end)).double())
            reference.check(f"{name}_gamma_scalar{end}", single, 1e-10)
    net, constant = network(reference)
    reference.fact("γ̃ before its ends are placed", net(t) + constant, reference.recorded("learnable_nnet_gamma"), 1e-10)
    only = line(reference.read("nnet_l1_kernel").flatten(), reference.read("nnet_l1_bias"))
    reference.check("nnet_linear_only_gamma", only(t), 1e-10)


def lattice(reference: Reference) -> Lattice:
    """Their data map 2(x + ½)/n − 1: the centres of n equal bins of [−1, 1]; the library has values at the ends."""
    count = reference.number("vocab_size")
    return Lattice(1 / count - 1, 2 / count, count)


def units(reference: Reference, on: Lattice) -> Tensor:
    """`images` in those units, float64."""
    return on.low + on.width * reference.read("images").double()


def encdec(reference: Reference) -> None:
    """EncDec: f, log p of every value and log p(x|z₀); `z<i>` is z₀/α₀."""
    on = lattice(reference)
    x0 = units(reference, on)
    reference.check("f", x0, TOLERANCE)
    for match in reference.keys(r"g(\d+)"):
        z, variance = reference.read(f"z{match[1]}"), reference.read(match[0])
        reference.check(f"logprob{match[1]}", softmax(on)(x0, Normal(z, variance)), TOLERANCE)
        shown = z[: len(reference.recorded(f"logprobs{match[1]}"))]
        number = torch.zeros_like(shown).long()
        each = [softmax_log_prob(on, number + k, Normal(shown, variance)) for k in range(on.count)]
        reference.check(f"logprobs{match[1]}", torch.stack(each, dim=-1), TOLERANCE)


def features(reference: Reference) -> None:
    """Base2FourierFeatures, sin(2ⁿ 2πz): n is one less than the paper's and ours. get_timestep_embedding of 1000 t."""
    z = reference.read("z").movedim(-1, 1)
    for match in reference.keys(r"fourier_(\d+)_(\d+)_(\d+)"):
        octaves = [n + 1 for n in range(*map(int, match.groups()))]
        reference.check(match[0], fourier_features(z, octaves).movedim(1, -1), TOLERANCE)
    label = 1000 * reference.read("t")
    for match in reference.keys(r"temb_(\d+)(_f64)?"):
        value = positional(label, int(match[1]))
        reference.check(match[0], value, TOLERANCE if match[2] else 0.0, floor=0.0 if match[2] else 1e-4)


class StandIn(nn.Module):
    """ε̂(z, γ): of the mixture, or ½z + γ/100."""

    def __init__(self, kind: str, density: Mixture) -> None:
        super().__init__()
        self.kind, self.oracle = kind, Oracle(density)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        if self.kind == "linear":
            return 0.5 * x + over(0.01 * label, x)
        level = Level(torch.zeros_like(label), label, vp.log_alpha(label), vp.log_sigma(label))
        return self.oracle(x, level).eps


class Tapes:
    """Stands for `Draws`: recorded noise by name."""

    def __init__(self, **noise: Tensor) -> None:
        self.noise = noise

    def normal(self, name: str, like: Tensor) -> Tensor:
        return self.noise[name.replace("/", "_")].to(like)


def losses(reference: Reference) -> None:
    """VDM.__call__ `T<steps>_<γ>_<network>[_iid]_<part>`, T = 0 for continuous time, and its means in bits/dim."""
    on, density, known = lattice(reference), law(reference), schedules(reference)
    x0, last = units(reference, on), reference.read("eps_0")
    place = torch.arange(len(x0)).double() / len(x0)
    times = {"": (reference.read("t0_uniform") + place) % 1, "_iid": reference.read("t_uniform_iid")}
    noise = {key: reference.read(f"eps{key}") for key in times}
    pattern = rf"(bpd_)?T(\d+)_({'|'.join(known)})_(gmm|linear)(_iid)?(_loss_diff)?"
    for match in reference.keys(pattern):
        bits, steps, name, kind, iid, diffusion = match.groups(default="")
        if bool(bits) == bool(diffusion):
            continue
        path = Path(known[name], vp)
        setting = Setting(path, WEIGHTS["simple"], Recorded(times[iid]), "small", on)
        loss = VDM(setting, int(steps) or None, unit="bits_per_dim" if bits else "nats")
        model = Denoiser(StandIn(kind, density), path, eps, label=gamma_label)
        found = loss(model, x0, Tapes(eps=noise[iid], eps_last=last))
        if bits:
            reference.check(match[0], found.total.mean(), TOLERANCE)
            for part, ours in (("latent", "prior"), ("recon", "reconstruction"), ("diff", "diffusion")):
                reference.check(f"{match[0]}_bpd_{part}", found.parts[ours].mean(), TOLERANCE)
            continue
        prefix = match[0].removesuffix("loss_diff")
        for part, ours in (("recon", "reconstruction"), ("klz", "prior"), ("diff", "diffusion")):
            reference.check(f"{prefix}loss_{part}", found.parts[ours], TOLERANCE)
        for end, level in ((0, path.lowest), (1, path.highest)):
            shape = reference.recorded(f"{prefix}var_{end}").shape
            reference.check(f"{prefix}var_{end}", (level.sigma**2).expand(shape), TOLERANCE)
        count = int(steps)
        level = path.at(torch.ceil(times[iid] * count) / count if count else times[iid])
        reference.check(f"{prefix}z_t", level.perturb(x0, noise[iid]), TOLERANCE)
        reference.check(f"{prefix}g_t", level.gamma, TOLERANCE)


def sample(reference: Reference) -> None:
    """VDM.sample: `T<steps>_<γ>_traj`, whole or its end alone, and `_x`, the values decoded from z₀/α₀."""
    on, density, known = lattice(reference), law(reference), schedules(reference)
    for match in reference.keys(rf"(T(\d+))_({'|'.join(known)})_traj"):
        path, start = Path(known[match[3]], vp), reference.read("z_init")
        grid = path.grid(int(match[2]), end="lowest")
        model = Denoiser(StandIn("gmm", density), path, eps, label=gamma_label)
        with torch.no_grad():
            steps = walk(Ancestral("small"), model, start, grid, tape(reference.read(f"{match[1]}_noise")))
        trajectory = torch.cat([start.unsqueeze(0), states(steps)])
        reference.check(match[0], trajectory[-len(reference.recorded(match[0])) :], TOLERANCE)
        decoded = on.nearest(steps[-1].x / grid[-1].alpha)
        reference.check(match[0].replace("traj", "x"), decoded, 0.0)


def score_unet(reference: Reference) -> None:
    """ScoreUNet with its own parameters; 1e-9.

    Theirs gives the first layer of the embedding a number more (`conditioning`), which is an offset of that layer: one
    network an example. GroupNorm there has 32 groups and ε = 1e-6.
    """
    z, g = reference.read("z").movedim(-1, 1), reference.read("g_t")
    ends = [float(reference.read(f"gamma_{end}")) for end in ("min", "max")]
    for key, labels in (("out", g), ("out_scalar_g", g[:1].expand_as(g))):
        outputs = []
        for i, extra in enumerate(reference.read("conditioning").tolist()):
            net = loaded(reference, tuple(z.shape[1:]), ends, extra)
            with torch.no_grad():
                outputs.append(net(z[i : i + 1], labels[i : i + 1]))
        reference.check(key, torch.cat(outputs).movedim(1, -1), TOLERANCE)


def loaded(reference: Reference, shape: tuple[int, ...], ends: list[float], extra: float) -> VDMUNet:
    """The network with flax's parameters: convolutions (H, W, in, out), matrices (in, out)."""

    def read(name: str) -> Tensor:
        return reference.read(f"param:{name}")

    depth = len([*reference.keys(r"param:down\.block_\d+/conv1/bias")])
    channels = len(read("conv_in/bias"))
    octaves = range((read("conv_in/kernel").shape[2] // shape[0] - 1) // 2)
    net = VDMUNet(shape, channels=channels, depth=depth, label_range=ends, fourier=[7 + n for n in octaves]).double()
    for module in net.modules():
        if isinstance(module, nn.GroupNorm):
            module.num_groups, module.eps = 32, 1e-6
    blocks = {f"down.{i}.0": f"down.block_{i}" for i in range(depth)}
    blocks |= {"middle.0": "mid.block_1", "middle.2": "mid.block_2"}
    blocks |= {f"up.{i}.0": f"up.block_{i}" for i in range(depth + 1)}
    state = {name: torch.zeros_like(value) for name, value in net.state_dict().items()}
    first = read("dense0/kernel")
    state["embedding.perceptron.0.weight"] = first[:channels].T
    state["embedding.perceptron.0.bias"] = read("dense0/bias") + extra * first[channels]
    put(state, "embedding.perceptron.2", read("dense1/kernel"), read("dense1/bias"))
    put(state, "stem", read("conv_in/kernel"), read("conv_in/bias"))
    put(state, "head.0", read("GroupNorm_0/scale"), read("GroupNorm_0/bias"))
    put(state, "head.2", read("conv_out/kernel"), read("conv_out/bias"))
    for ours, theirs in blocks.items():
        for norm, group in (("norm1", "GroupNorm_0"), ("norm2", "GroupNorm_1")):
            put(state, f"{ours}.{norm}", read(f"{theirs}/{group}/scale"), read(f"{theirs}/{group}/bias"))
        for conv in ("conv1", "conv2"):
            put(state, f"{ours}.{conv}", read(f"{theirs}/{conv}/kernel"), read(f"{theirs}/{conv}/bias"))
        state[f"{ours}.embed.weight"] = read(f"{theirs}/cond_proj/kernel").T
        if f"param:{theirs}/nin_shortcut/bias" in reference:
            kernel = read(f"{theirs}/nin_shortcut/kernel")
            put(state, f"{ours}.shortcut", kernel.reshape(1, 1, *kernel.shape), read(f"{theirs}/nin_shortcut/bias"))
    attention(state, read)
    net.load_state_dict(state)
    return net.eval()


def put(state: dict[str, Tensor], name: str, weight: Tensor, bias: Tensor) -> None:
    """A layer of theirs under our name: a vector, a matrix or a convolution."""
    order = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[weight.ndim]
    assert state[f"{name}.weight"].shape == weight.permute(order).shape, name
    state[f"{name}.weight"], state[f"{name}.bias"] = weight.permute(order), bias


def attention(state: dict[str, Tensor], read: Callable[[str], Tensor]) -> None:
    """q, k and v are one matrix here."""
    name = "mid.attn_1"
    put(state, "middle.1.norm", read(f"{name}/GroupNorm_0/scale"), read(f"{name}/GroupNorm_0/bias"))
    kernels, biases = ([read(f"{name}/{part}/{what}") for part in "qkv"] for what in ("kernel", "bias"))
    put(state, "middle.1.qkv", torch.cat(kernels, dim=1), torch.cat(biases))
    put(state, "middle.1.out", read(f"{name}/proj_out/kernel"), read(f"{name}/proj_out/bias"))
