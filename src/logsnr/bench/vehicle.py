"""The network on which speed is measured: a U-Net that diffusers and we build from the same weights.

`write` puts it into a folder, from which every contender reads: `config.json`, `weights.safetensors` (diffusers' names)
and `probe.safetensors`, one batch with its noise, times and starting points, on which outputs are compared.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from logsnr import nets
from logsnr.interop import diffusers as names
from logsnr.nets.unet import UNetOptions
from logsnr.run.trained import find
from logsnr.train import checkpoint

_UNET: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "sample_size": 32,
    "layers_per_block": 2,
    "attention_head_dim": None,
    "norm_num_groups": 32,
}
VEHICLES: dict[str, dict[str, Any]] = {
    "toy": _UNET
    | {
        "sample_size": 8,
        "layers_per_block": 1,
        "block_out_channels": [32, 64],
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    },
    "small": _UNET
    | {
        "block_out_channels": [64, 128, 128],
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    },
    # Ho et al. 2020, appendix B: 35.7 million parameters
    "cifar10": _UNET
    | {
        "block_out_channels": [128, 256, 256, 256],
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    },
}


@dataclass(frozen=True)
class Vehicle:
    """A network's configuration in diffusers' words and its weights, and a batch: x, noise, times 0…999, start."""

    config: dict[str, Any]
    weights: dict[str, Tensor]
    probe: dict[str, Tensor]

    @property
    def record(self) -> dict[str, Any]:
        """Of our network."""
        return names.network_record(self.config)

    def network(self) -> nn.Module:
        """Ours, with the weights."""
        network = nets.construct(self.record)
        network.load_state_dict(names.weights(self.weights, self.record))
        return network


def write(folder: Path, name: str, batch_size: int, seed: int = 0, run: Path | None = None) -> Vehicle:
    """A vehicle in `folder`: with the averaged weights of a run, or random ones by PyTorch's law, none of them zero.

    ValueError for a run of another network.
    """
    config = VEHICLES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nets.construct(names.network_record(config))
        for parameter in network.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=(3 * parameter[0].numel()) ** -0.5)
        size = config["sample_size"]
        x, noise, start = (torch.randn(batch_size, 3, size, size) for _ in range(3))
        times = torch.randint(0, 1000, (batch_size,))
    ours = network.state_dict() if run is None else _of_run(run, names.network_record(config))
    weights = names.foreign(ours, names.network_record(config))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "weights.safetensors")
    probe = {"x": x.clamp(-1, 1), "noise": noise, "times": times, "start": start}
    save_file(probe, folder / "probe.safetensors")
    return read(folder)


def _of_run(run: Path, record: dict[str, Any]) -> dict[str, Tensor]:
    saved = checkpoint.load(find(run))
    defaults = json.loads(json.dumps(asdict(UNetOptions())))  # tuples as they are read back
    theirs = {**defaults, **saved.state["network"]}
    for key, wanted in record.items():
        if theirs.get(key) != wanted:
            raise ValueError(f"the network of {run} has {key} = {theirs.get(key)!r}; allowed: the vehicle's {wanted!r}")
    prefix = "network."
    return {name.removeprefix(prefix): t for name, t in saved.tensors["ema"].items() if name.startswith(prefix)}


def read(folder: Path) -> Vehicle:
    """The vehicle in a folder."""
    config = json.loads((folder / "config.json").read_text())
    return Vehicle(config, load_file(folder / "weights.safetensors"), load_file(folder / "probe.safetensors"))


def forward_flops(vehicle: Vehicle) -> int:
    """Floating-point operations of one forward of the batch as written: two a product, nothing folded, counted."""
    with torch.device("meta"):
        network = nets.construct(vehicle.record)
        x, times = torch.empty(vehicle.probe["x"].shape), torch.empty(vehicle.probe["times"].shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(x, times)
    return int(counter.get_total_flops())
