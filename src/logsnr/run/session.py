"""A training in progress, from a configuration: its data, its trainer, and whether a checkpoint is of the same run."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from logsnr.config import FREE_ON_RESUME, MachineConfig, RunConfig, TrainConfig, from_dict
from logsnr.data import Batches, Dataset
from logsnr.data import load as load_data
from logsnr.data.transform import Lattice
from logsnr.families import LEARNING_RATE, LEARNING_RATES
from logsnr.records import Part, leaves, to_dict
from logsnr.run import build, checks
from logsnr.run.generate import default_width
from logsnr.run.machine import Machine, machine
from logsnr.run.ranks import ALONE, Ranks
from logsnr.train import checkpoint
from logsnr.train.ema import MovingAverages
from logsnr.train.engine import engine
from logsnr.train.optim import adamw, learning_rate
from logsnr.train.report import Report
from logsnr.train.trainer import Trainer

PREVIEW_STEPS = 25


@dataclass
class Session:
    """A training in progress: the parts, and where it stands. `watch` is told every report.

    batches: this rank's shares of them.
    """

    config: RunConfig
    out: Path
    data: Dataset
    holdout: Dataset
    here: Machine
    network: dict[str, Any]
    trainer: Trainer
    ranks: Ranks
    batches: Batches
    say: Callable[[str], None]
    watch: Callable[[Report], None]
    elapsed: float = 0.0


def resolved(config: RunConfig, data: Dataset) -> RunConfig:
    """The configuration with every "auto" settled for this data: what run.yaml says. ValueError for what is wrong."""
    config = build.fitted(config, data.transform.lattice)
    checks.check(config, data.transform.lattice)
    law = config.train
    learning_rate(law.warmup_steps, base=1.0, warmup_steps=law.warmup_steps, total_steps=law.steps, decay=law.decay)
    width = config.sample.width or default_width(data.shape)
    every = config.train.preview_every
    if every is None:
        # a preview costs 2 · 25 forwards of `width` examples, a step about 3 forwards of the batch: stay below 5 %
        cost_steps = 2 * PREVIEW_STEPS * width / (3 * config.train.batch_size)
        every = max(config.train.steps // 10, round(25 * cost_steps), 1)
    name, lr = build.network_name(config, data.shape), config.train.lr
    config = replace(
        config,
        network=Part(name, config.network.options),
        sample=replace(config.sample, width=width),
        train=replace(
            config.train,
            preview_every=every,
            lr=LEARNING_RATES.get(name, LEARNING_RATE) if lr is None else lr,
        ),
    )
    checks.network(build.network_record(config, data.shape, data.transform.lattice, data.conditions.sizes))
    return config


def datasets(config: RunConfig) -> tuple[Dataset, Dataset]:
    """The training split, and one to hold out: `val` where the source has one, else `test`; with its conditions."""
    size, channels = config.data.size, config.data.channels
    options: dict[str, Any] = {
        "size": size[0] if size and len(size) == 1 else size,
        "channels": "auto" if channels is None else channels,
    }
    data = load_data(config.data.source, split="train", **options)
    split = next((name for name in ("val", "test") if name in data.splits), "train")
    holdout = load_data(config.data.source, split=split, **options)
    return data.conditioned_on(config.condition.use), holdout.conditioned_on(config.condition.use)


def opened(
    config: RunConfig,
    out: Path,
    splits: tuple[Dataset, Dataset],
    start: Path | None,
    say: Callable[[str], None],
    watch: Callable[[Report], None],
    ranks: Ranks = ALONE,
) -> Session:
    """The session at step 0, or where the checkpoint `start` left it. ValueError if that is of another run."""
    saved = checkpoint.described(start) if start else None
    law, flip = config.train, config.data.flip
    batches = Batches(splits[0], law.batch_size, config.seed, flip=flip, rank=ranks.rank, ranks=ranks.count)
    lattice, sizes = splits[0].transform.lattice, splits[0].conditions.sizes
    network = saved.state["network"] if saved else build.network_record(config, splits[0].shape, lattice, sizes)
    wanted = config.machine if saved is None else _as_saved(config.machine, saved.state["machine"])
    here = machine(wanted, parameters=build.parameters(network), calls=law.steps)
    if saved is not None:
        _same_run(config, splits, here, saved)
    trainer = trainer_for(config, network, here, lattice, ranks)
    session = Session(config, out, *splits, here, network, trainer, ranks, batches, say, watch)
    _introduced(session, start)
    if saved is not None:
        trainer.load_state(checkpoint.load(saved.path, like=trainer.like()).tensors, saved.state["trainer"])
        session.elapsed = saved.state["seconds"]
        say(f"resumed at step {trainer.step} from {start}")
    return session


def _introduced(session: Session, start: Path | None) -> None:
    """Say who the ranks are. ValueError unless they all start from the same checkpoint."""
    group, stretch = session.ranks, session.batches.share
    if group.count == 1:
        return
    own = {
        "host": socket.gethostname(),
        "device": str(session.here.device),
        "threads": session.here.threads,
        "share": f"examples {stretch.start} to {stretch.stop - 1} of {session.config.train.batch_size}",
        "start": start.name if start else "the beginning",
    }
    rows = group.told("rank", own)
    session.say(f"{group.count} ranks, engine {session.trainer.engine.name}")
    for rank, row in enumerate(rows):
        session.say(f"rank {rank}: {row['host']}, {row['device']}, threads {row['threads']}, {row['share']}")
        if row["start"] != rows[0]["start"]:
            raise ValueError(
                f"rank {rank} on {row['host']} would start from {row['start']}, rank 0 on {rows[0]['host']} from "
                f"{rows[0]['start']}; allowed: a run directory (--out, --resume) that all ranks share"
            )


def trainer_for(
    config: RunConfig, network: dict[str, Any], here: Machine, lattice: Lattice | None, ranks: Ranks = ALONE
) -> Trainer:
    """Model, objective, averages and optimiser of a resolved configuration, ready for step 0."""
    model = here.placed(build.denoiser(config, network, here.autocast))
    task, law = build.task(config, model, lattice, network["num_classes"]), config.train
    beta1, beta2 = law.betas
    lr = LEARNING_RATE if law.lr is None else law.lr
    rate = _rate(law, lr)
    rate(law.warmup_steps, 0.0)  # an impossible law is an error now, not after the warm-up
    second = config.objective.loss.name == "sliced" or network.get("output") == "energy"
    if config.machine.engine == "fsdp" and ranks.count > 1 and second:
        raise ValueError(
            "engine 'fsdp' with a loss or network that differentiates the network itself (sliced, energy); allowed: ddp"
        )
    # whatever shards the parameters comes before what refers to them
    run = engine(config.machine.engine, task, model.network, ranks.rank, ranks.count)
    return Trainer(
        run,
        MovingAverages(model, law.ema_half_lives_images),
        adamw(task, lr=lr, betas=(beta1, beta2), weight_decay=law.weight_decay),
        learning_rate=rate,
        seed=config.seed,
        micro_batch=law.micro_batch,
        clip_norm=law.clip_norm,
    )


def _rate(law: TrainConfig, base: float) -> Callable[[int, float], float]:
    """The learning rate as a law of steps and time; one that falls anyway has no cooldown, nor has a run in steps."""
    cools, ends = law.minutes is not None and law.decay == "constant", law.steps
    if cools and law.images is not None:
        ends = min(ends, -(-law.images // law.batch_size))
    cooldown, warmup_steps = law.cooldown if cools else 0.0, law.warmup_steps
    return partial(
        learning_rate, base=base, warmup_steps=warmup_steps, total_steps=ends, decay=law.decay, cooldown=cooldown
    )


def _as_saved(wanted: MachineConfig, saved: dict[str, Any]) -> MachineConfig:
    """The choices of a command that goes on with a run: the run's own where the command leaves them open."""
    precision = saved["precision"] if wanted.precision == "auto" else wanted.precision
    compiled = "off" if wanted.compile == "auto" and not saved.get("compile") else wanted.compile
    return replace(wanted, threads=wanted.threads or saved["threads"], precision=precision, compile=compiled)


def _same_run(config: RunConfig, splits: tuple[Dataset, Dataset], here: Machine, saved: checkpoint.Checkpoint) -> None:
    """ValueError unless the command describes the run that the checkpoint is of."""
    state = saved.state
    for data, key in zip(splits, ("data", "holdout"), strict=True):
        if data.fingerprint != state[key]["fingerprint"]:
            raise ValueError(f"{saved.path} was trained on other data ({state[key]['source']}) than {data.source}")
        if data.condition_fingerprints != state[key].get("conditions", {}):
            raise ValueError(f"{saved.path} was trained on the same examples of {data.source} with other conditions")
    if here.precision != state["machine"]["precision"]:
        raise ValueError(
            f"precision is {state['machine']['precision']} in {saved.path} and {here.precision} in this command; "
            f"allowed: --precision {state['machine']['precision']}, or another --out"
        )
    # the steps are part of a learning-rate law that ends with them; without minutes there is no cooldown
    free = {key for key in FREE_ON_RESUME if key != "train.steps" or config.train.decay == "constant"}
    free |= {"train.cooldown"} if config.train.minutes is None else set()
    before = state["config"]
    before = {**before, "train": {"cooldown": 0.0, **before["train"]}}  # runs older than the cooldown had none
    ours, theirs = leaves(to_dict(config)), leaves(to_dict(from_dict(before)))
    for key in sorted(ours.keys() | theirs.keys()):
        if key not in free and ours.get(key) != theirs.get(key):
            raise ValueError(
                f"{key} is {theirs.get(key)!r} in {saved.path} and {ours.get(key)!r} in this command; "
                "allowed: the run's own value, or another --out"
            )
