"""The other side: public programs as their own examples run them, on the same weights. Whatever is installed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tempfile
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from logsnr.bench.ours import STEPS, picture
from logsnr.bench.vehicle import Vehicle, read
from logsnr.bench.work import Work

PACKAGES = {
    "diffusers": "diffusers",
    "denoising-diffusion-pytorch": "denoising_diffusion_pytorch",
    "k-diffusion": "k_diffusion",
    "azula": "azula",
    "torch": "torch",
}


def installed(name: str) -> bool:
    """Whether the peer of a contender's name (`room/peer` or `room/peer-variant`) is there."""
    peer = name.partition("/")[2]
    packages = [package for known, package in PACKAGES.items() if peer == known or peer.startswith(f"{known}-")]
    return not packages or importlib.util.find_spec(packages[0]) is not None


def unet(vehicle: Vehicle) -> nn.Module:
    """diffusers' network with the vehicle's weights."""
    network: nn.Module = _module("diffusers").UNet2DModel(**vehicle.config)
    network.load_state_dict(vehicle.weights)
    return network.to(_device())


def diffusers_training(folder: Path, *, precision: str = "fp32", channels_last: bool = False) -> Work:
    """A step of diffusers' unconditional training example (examples/unconditional_image_generation)."""
    diffusers, get_scheduler = _module("diffusers"), _module("diffusers.optimization").get_scheduler
    vehicle = read(folder)
    network, device, narrow = unet(vehicle), _device(), precision == "bf16"
    if channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    rate = get_scheduler("cosine", optimizer=optimizer, num_warmup_steps=0, num_training_steps=10**6)
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
    clean = vehicle.probe["x"].to(device)

    def go() -> float:
        noise = torch.randn(clean.shape, device=device)
        times = torch.randint(0, 1000, (len(clean),), device=device).long()
        noisy = scheduler.add_noise(clean, noise, times)
        if channels_last:
            noisy = noisy.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=narrow):
            found = network(noisy, times).sample
        loss = F.mse_loss(found.float(), noise.float())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        return loss.detach().item()

    x, noise, times = (vehicle.probe[name].to(device) for name in ("x", "noise", "times"))
    with torch.no_grad():
        probe_loss = F.mse_loss(network(scheduler.add_noise(x, noise, times), times).sample, noise).item()
    return Work(go, {**_facts(vehicle, diffusers.__version__, precision), "probe_loss": probe_loss})


def lucidrains_training(folder: Path) -> Work:
    """A step with denoising-diffusion-pytorch's GaussianDiffusion around the same network, as its Trainer takes it."""
    vehicle = read(folder)
    diffusion = _module("denoising_diffusion_pytorch").GaussianDiffusion(
        _Plain(unet(vehicle)), image_size=vehicle.config["sample_size"], timesteps=1000, objective="pred_noise",
        beta_schedule="linear",
    ).to(_device())  # fmt: skip
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
    clean = (vehicle.probe["x"] / 2 + 0.5).to(_device())

    def go() -> float:
        loss = diffusion(clean)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.item())

    return Work(go, _facts(vehicle, version("denoising-diffusion-pytorch"), "fp32"))


class _Plain(nn.Module):
    """diffusers' network as a function of (x, t), with the attributes that others ask for."""

    channels, out_dim, self_condition, random_or_learned_sinusoidal_cond = 3, 3, False, False

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, times: Tensor, *args: Any) -> Tensor:
        answer: Tensor = self.network(x, times).sample
        return answer


def diffusers_sampling(folder: Path) -> Work:
    """diffusers' DDIMPipeline in 50 steps from the probe's starting points; shows the first numbers."""
    diffusers, pipeline_ddim = _module("diffusers"), _module("diffusers.pipelines.ddim.pipeline_ddim")
    vehicle = read(folder)
    start = vehicle.probe["start"].to(_device())
    # the levels that are ours: 50 equal strides from pure noise
    scheduler = diffusers.DDIMScheduler(1000, beta_schedule="linear", timestep_spacing="trailing")
    pipeline = diffusers.DDIMPipeline(unet(vehicle).eval(), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    pipeline_ddim.randn_tensor = lambda *args, **options: start  # the same starting points; nothing else is random

    def go() -> list[float]:
        # the noise that belongs to a clipped x̂0, as everywhere here
        images = pipeline(
            batch_size=len(start), num_inference_steps=STEPS, eta=0.0, use_clipped_model_output=True, output_type="np"
        ).images
        return [float(value) for value in images.flatten()[::97]]

    return Work(go, _facts(vehicle, diffusers.__version__, "fp32"))


def kdiffusion_sampling(folder: Path) -> Work:
    """k-diffusion's Euler steps, which are DDIM's, 50 of them, through its wrapper of models that predict noise."""
    vehicle = read(folder)
    model = _kdiffusion_model(vehicle)
    start = vehicle.probe["start"].to(_device())
    sigmas = model.get_sigmas(STEPS).to(start)

    @torch.inference_mode()
    def go() -> float:
        x = _module("k_diffusion.sampling").sample_euler(model, start * sigmas[0], sigmas, disable=True)
        return float(picture(x).mean())

    return Work(go, _facts(vehicle, version("k-diffusion"), "fp32"))


def kdiffusion_likelihood(folder: Path) -> Work:
    """k-diffusion's log-likelihood of two pictures at its tolerances of 1e-4, through the same wrapper."""
    vehicle = read(folder)
    model, x = _kdiffusion_model(vehicle), vehicle.probe["x"][:2].to(_device())

    def go() -> dict[str, Any]:
        ends = float(model.sigma_min), float(model.sigma_max)
        found, info = _module("k_diffusion.sampling").log_likelihood(model, x, *ends)
        return {"nats": (-found).tolist(), "evaluations": info["fevals"]}

    return Work(go, {**_facts(vehicle, version("k-diffusion"), "fp32"), "units": len(x)})


def _kdiffusion_model(vehicle: Vehicle) -> Any:
    alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
    wrapper = _module("k_diffusion.external").DiscreteEpsDDPMDenoiser
    return wrapper(_Plain(unet(vehicle).eval()), alphas, quantize=False).to(_device())


def azula_sampling(folder: Path) -> Work:
    """azula's DDIMSampler in 50 steps around the same network."""
    denoise: Any
    denoise, noise, sample = (_module(f"azula.{room}") for room in ("denoise", "noise", "sample"))
    vehicle = read(folder)
    network, start = _Plain(unet(vehicle).eval()), vehicle.probe["start"].to(_device())

    class Noise(denoise.Denoiser):  # type: ignore[misc]
        """x̂0 of a network that predicts noise."""

        def __init__(self) -> None:
            super().__init__()
            self.schedule = noise.VPSchedule()

        def forward(self, x: Tensor, t: Tensor, **given: Any) -> Any:
            alpha, sigma = self.schedule(t)
            return denoise.DiracPosterior((x - sigma * network(x, 999 * t.expand(len(x)))) / alpha)

    sampler = sample.DDIMSampler(Noise(), steps=STEPS, silent=True)

    @torch.inference_mode()
    def go() -> float:
        return float(picture(sampler(start)).mean())

    return Work(go, _facts(vehicle, version("azula"), "fp32"))


def torch_loading(folder: Path) -> Work:
    """Fifty batches of 64 pictures through torch's DataLoader, from the same numbers in memory."""
    from torch.utils.data import DataLoader, TensorDataset

    from logsnr.data import load

    data = load("digits")
    x, given = data.batch(range(len(data)))
    loader = DataLoader(TensorDataset(x, given["classes"]), batch_size=64, shuffle=True, drop_last=True)

    def go() -> float:
        count, total = 0, 0.0
        while count < 50:
            for batch, _ in loader:
                total += float(batch.sum())
                count += 1
                if count == 50:
                    break
        return total

    return Work(go, {"units": 3200, "unit": "images", "version": torch.__version__})


def torch_save(folder: Path) -> Work:
    """torch.save of as many numbers in as many tensors: weights, averages, two moments."""
    tensors, path = _four_times(folder), Path(tempfile.mkdtemp(dir=folder)) / "state.pt"
    return Work(lambda: torch.save(tensors, path), {"units": 1, "unit": "checkpoints", "version": torch.__version__})


def torch_load(folder: Path) -> Work:
    """torch.load of the same into tensors that are there."""
    tensors, path = _four_times(folder), Path(tempfile.mkdtemp(dir=folder)) / "state.pt"
    torch.save(tensors, path)

    def go() -> None:
        for name, found in torch.load(path, weights_only=True).items():
            tensors[name].copy_(found)

    return Work(go, {"units": 1, "unit": "checkpoints", "version": torch.__version__})


def _four_times(folder: Path) -> dict[str, Tensor]:
    return {f"{copy}.{name}": t.clone() for copy in range(4) for name, t in read(folder).weights.items()}


# What some peers import at their top for other purposes than those measured here.
UNUSED = (
    "torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.datasets",
    "torchvision.utils", "torchvision.models", "clip", "clip.model", "cleanfid", "cleanfid.inception_torchscript",
    "cleanfid.features", "cleanfid.resize", "wandb", "kornia", "resize_right", "jsonmerge", "pytorch_fid",
    "pytorch_fid.fid_score", "pytorch_fid.inception", "ema_pytorch", "skimage", "ftfy",
)  # fmt: skip


def _module(name: str) -> Any:
    """An installed module; what it imports besides, is not installed and does nothing here is stood in for."""
    for unused in UNUSED if name.partition(".")[0] in ("k_diffusion", "denoising_diffusion_pytorch") else ():
        root = unused.partition(".")[0]
        if isinstance(sys.modules.get(root), MagicMock) or importlib.util.find_spec(root) is None:
            stand_in = MagicMock()
            stand_in.__spec__ = ModuleSpec(unused, None)
            sys.modules.setdefault(unused, stand_in)
    return importlib.import_module(name)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _facts(vehicle: Vehicle, package_version: str, precision: str) -> dict[str, Any]:
    return {
        "units": len(vehicle.probe["x"]),
        "unit": "images",
        "version": package_version,
        "precision": precision,
        "threads": torch.get_num_threads(),
        "device": str(_device()),
    }
