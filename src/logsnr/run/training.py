"""Training a run in a directory: start it, go on with it, never lose any of it.

    OUT/run.yaml  log.jsonl  previews/step-00001000.png  checkpoints/step-00001000/

The same command goes on where it stopped. Everything a step does is a function of the weights, the data and
(seed, step), and a checkpoint is whole or absent, so a run that was killed and continued is, bit for bit, the run that
was left alone; its log has no missing and no repeated record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from logsnr import nets
from logsnr.config import FREE_ON_RESUME, Part, RunConfig, leaves, to_dict, write
from logsnr.data import Batches, Dataset
from logsnr.data import load as load_data
from logsnr.draws import Draws
from logsnr.files import whole
from logsnr.objectives import Task
from logsnr.pictures import save_grid
from logsnr.run import build
from logsnr.run.generate import default_width
from logsnr.run.machine import Machine, machine
from logsnr.run.trained import Trained, find
from logsnr.train import checkpoint
from logsnr.train.ema import MovingAverages
from logsnr.train.journal import Journal
from logsnr.train.optim import adamw, learning_rate
from logsnr.train.report import Report
from logsnr.train.stop import Stop
from logsnr.train.trainer import Trainer

HOLDOUT_MOST = 512
PREVIEW_STEPS = 25
PREVIEW_COUNT = 8


@dataclass
class Session:
    """A training in progress: the parts, and where it stands. `watch` is told every report."""

    config: RunConfig
    out: Path
    data: Dataset
    holdout: Dataset
    here: Machine
    network: dict[str, Any]
    task: Task
    trainer: Trainer
    say: Callable[[str], None]
    watch: Callable[[Report], None]
    elapsed: float = 0.0


def resolved(config: RunConfig, data: Dataset) -> RunConfig:
    """The configuration with every "auto" settled for this data: what run.yaml says. ValueError for what is wrong."""
    build.check(config)
    name = nets.default_size(data.shape) if config.network.name == "auto" else config.network.name
    width = config.sample.width or default_width(data.shape)
    batch = config.train.batch_size
    # a preview evaluates 2 · 25 forwards of `width` examples; a step about 3 forwards of the batch: stay below 5 %
    cost_steps = 2 * PREVIEW_STEPS * width / (3 * batch)
    every = config.train.preview_every or max(config.train.steps // 10, round(25 * cost_steps), 1)
    return replace(
        config,
        network=Part(name, config.network.options),
        sample=replace(config.sample, width=width),
        train=replace(config.train, preview_every=every),
    )


def datasets(config: RunConfig) -> tuple[Dataset, Dataset]:
    """The training and the held-out split."""
    options: dict[str, Any] = {"size": config.data.size, "channels": config.data.channels or "auto"}
    both = [load_data(config.data.source, split=split, **options) for split in ("train", "test")]
    data, holdout = (replace(one, labels=None) for one in both)  # labels condition nothing yet
    return data, holdout


def train(
    config: RunConfig,
    out: Path,
    *,
    resume: str = "auto",
    say: Callable[[str], None] = print,
    watch: Callable[[Report], None] = lambda report: None,
) -> Path:
    """Train, or go on training, in the directory `out`; returns the last checkpoint.

    resume: "auto" goes on from the newest checkpoint of `out`, "none" demands a fresh directory, anything else is a
    run or checkpoint to start from. ValueError in one line for whatever is wrong with config, data or directory.
    """
    data, holdout = datasets(config)
    config = resolved(config, data)
    start = _start(out, resume)
    out.mkdir(parents=True, exist_ok=True)
    with _locked(out):
        session = _session(config, out, data, holdout, start, say, watch)
        with whole(out / "run.yaml") as fresh:
            fresh.write_text(write(config))
        return _loop(session)


def _start(out: Path, resume: str) -> Path | None:
    newest = checkpoint.latest(out / "checkpoints")
    if resume == "auto":
        return newest
    if resume == "none":
        if newest is not None:
            raise ValueError(f"--resume none, but {out} holds a run at {newest.name}; allowed: another --out, or auto")
        return None
    if newest is not None and find(Path(resume)) != newest:
        raise ValueError(f"--resume {resume}, but {out} holds a run at {newest.name}; allowed: another --out, or auto")
    return find(Path(resume))


def _session(
    config: RunConfig, out: Path, data: Dataset, holdout: Dataset, start: Path | None, say: Callable[[str], None],
    watch: Callable[[Report], None],
) -> Session:  # fmt: skip
    saved = checkpoint.load(start) if start else None
    if saved is not None and start is not None:
        _same_run(config, data, saved.state, start)
        if config.machine.threads is None:
            torch.set_num_threads(saved.state["machine"]["threads"])
    here = machine(config.machine)
    network = saved.state["network"] if saved else build.network_record(config, data.shape)
    model = build.denoiser(config, network, here.autocast).to(here.device)
    task = build.task(config, model)
    law = config.train
    averages = MovingAverages(model, law.ema_half_lives_images)
    beta1, beta2 = law.betas
    optimizer = adamw(task, lr=law.lr, betas=(beta1, beta2), weight_decay=law.weight_decay)
    rate = partial(learning_rate, base=law.lr, warmup_steps=law.warmup_steps, total_steps=law.steps, decay=law.decay)
    rate(law.warmup_steps)  # an impossible law is an error now, not after the warm-up
    trainer = Trainer(
        task, averages, optimizer,
        learning_rate=rate, seed=config.seed, micro_batch=law.micro_batch, clip_norm=law.clip_norm,
    )  # fmt: skip
    session = Session(config, out, data, holdout, here, network, task, trainer, say, watch)
    if saved is not None:
        trainer.load_state(saved.tensors, saved.state["trainer"])
        session.elapsed = saved.state["seconds"]
        say(f"resumed at step {trainer.step} from {start}")
    return session


def _same_run(config: RunConfig, data: Dataset, state: dict[str, Any], start: Path) -> None:
    """ValueError unless the command describes the run that the checkpoint is of."""
    if data.fingerprint != state["data"]["fingerprint"]:
        raise ValueError(f"{start} was trained on other data ({state['data']['source']}) than {data.source}")
    ours, theirs = leaves(to_dict(config)), leaves(state["config"])
    for key in sorted(ours.keys() | theirs.keys()):
        if key not in FREE_ON_RESUME and key != "data.source" and ours.get(key) != theirs.get(key):
            raise ValueError(
                f"{key} is {theirs.get(key)!r} in {start} and {ours.get(key)!r} in this command; "
                "allowed: the run's own value, or another --out"
            )


def _finished(session: Session) -> bool:
    law, trainer = session.config.train, session.trainer
    return (
        trainer.step >= law.steps
        or (law.images is not None and trainer.images >= law.images)
        or (law.minutes is not None and session.elapsed >= 60 * law.minutes)
    )


def _loop(session: Session) -> Path:
    """Train until finished or told to stop; returns the last checkpoint, raises KeyboardInterrupt if told to stop."""
    config, trainer, law = session.config, session.trainer, session.config.train
    newest = checkpoint.latest(session.out / "checkpoints")
    if _finished(session) and newest is not None:
        session.say(f"already at step {trainer.step}; raise --steps, --minutes or --images to go on")
        return newest
    batches = Batches(session.data, law.batch_size, config.seed, flip=config.data.flip).iterate(trainer.step)
    with Stop() as stop, Journal(session.out / "log.jsonl") as journal, closing(batches):
        journal.keep_until(trainer.step)
        tick = time.perf_counter()
        for report in trainer.steps(batches):
            # what is logged depends on the step alone, never on where a run was stopped: logs of resumed runs agree
            due = partial(_due, report.step)
            if due(law.log_every):
                journal.append(report.record() | (_holdout(session) if due(law.holdout_every) else {}))
            if due(law.preview_every):
                _preview(session)
            session.watch(report)
            session.elapsed += time.perf_counter() - tick
            tick = time.perf_counter()
            over = _finished(session)
            if over or stop.requested or due(law.checkpoint_every):
                journal.sync()
                newest = _save(session)
            if over or stop.requested:
                break
    assert newest is not None
    if not _finished(session):
        session.say(f"stopped at step {trainer.step} and saved; the same command goes on")
        raise KeyboardInterrupt
    return newest


def _due(step: int, every: int | None) -> bool:
    return bool(every) and step % (every or 1) == 0


@torch.inference_mode()
def _holdout(session: Session) -> dict[str, float]:
    """The averaged weights' loss on held-out examples, always under the same noise."""
    config, count = session.config, min(len(session.holdout), HOLDOUT_MOST)
    total = 0.0
    with session.trainer.averages.swap():
        session.task.eval()
        for index in torch.arange(count).split(config.train.micro_batch or config.train.batch_size):
            x0 = session.holdout.batch(index.numpy())[0].to(session.here.device)
            total += float(session.task(x0, Draws(-1 - config.seed, 0, index, count)).total.sum())
        session.task.train()
    return {"holdout_loss": total / count}


def _preview(session: Session) -> None:
    """Two rows of examples from the same noise: raw weights above, averaged weights below."""
    config, step, transform = session.config, session.trainer.step, session.data.transform
    model = session.task.model.eval()
    trained = Trained(model, config, transform, session.here, session.out, step, "raw")
    recipe = trained.recipe(sampler="ddim", steps=min(PREVIEW_STEPS, config.sample.steps), seed=config.seed)
    index = torch.arange(min(PREVIEW_COUNT, recipe.width))
    raw = trained.sample_x0(index, recipe=recipe)
    with session.trainer.averages.swap():
        averaged = trained.sample_x0(index, recipe=recipe)
    model.train()
    examples = transform.decode(torch.cat([raw, averaged]))
    save_grid(session.out / "previews" / f"step-{step:08d}.png", examples, transform, columns=len(index))


def _save(session: Session) -> Path:
    tensors, values = session.trainer.state()
    state = {
        "trainer": values,
        "seconds": session.elapsed,
        "config": to_dict(session.config),
        "network": session.network,
        "transform": session.data.transform.to_dict(),
        "data": {
            "source": session.data.source,
            "fingerprint": session.data.fingerprint,
            "count": len(session.data),
            "classes": list(session.data.classes),
        },
        "machine": session.here.record(),
    }
    root = session.out / "checkpoints"
    saved = checkpoint.save(root, session.trainer.step, tensors, state)
    checkpoint.rotate(root, session.config.train.keep)
    return saved


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """One training at a time in a directory; the lock dies with the process."""
    with (out / ".lock").open("w") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass
        except OSError:
            raise ValueError(f"another process is training in {out}; allowed: wait for it, or another --out") from None
        yield
