"""Training a run in a directory: start it, go on with it, never lose any of it.

    OUT/run.yaml  log.jsonl  previews/step-00001000.png  checkpoints/step-00001000/

The same command goes on where it stopped. Everything a step does is a function of the weights, the data and
(seed, step), and a checkpoint is whole or absent, so a run that was killed and continued is, bit for bit, the run that
was left alone; its log has no missing and no repeated record. A run of so many minutes ends by the clock, and so does
its cooldown: two of them agree to the bit until it begins.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from logsnr.config import RunConfig, nested, resolve, write
from logsnr.data import Batch, Dataset
from logsnr.denoiser import Denoiser
from logsnr.draws import Draws, dealt
from logsnr.files import whole
from logsnr.path import section_counts
from logsnr.pictures import save_grid
from logsnr.records import to_dict
from logsnr.run.machine import machine
from logsnr.run.ranks import ALONE, Ranks
from logsnr.run.session import PREVIEW_STEPS, Session, datasets, opened, resolved
from logsnr.run.trained import Trained, find, load
from logsnr.train import checkpoint
from logsnr.train.journal import Journal, Unwritten
from logsnr.train.report import Report
from logsnr.train.stop import Stop
from logsnr.train.trainer import NonFiniteLoss

HOLDOUT_MOST = 512
PREVIEW_COUNT = 8
STAY, TOLD_TO_STOP, TIME_IS_UP = range(3)  # of several ranks' wishes the greatest decides


@torch.enable_grad()  # whatever the caller is doing
def train(
    config: RunConfig,
    out: Path,
    *,
    resume: str = "auto",
    ranks: Ranks = ALONE,
    say: Callable[[str], None] = print,
    watch: Callable[[Report], None] = lambda report: None,
) -> Path:
    """Train, or go on training, in the directory `out`; returns the last checkpoint.

    resume: "auto" goes on from the newest checkpoint of `out`, "none" demands a fresh directory, anything else is a
    run or checkpoint to start from. ranks: who trains together, in a directory that all see; the first one writes.
    ValueError in one line for whatever is wrong with config, data or directory.
    """
    data, holdout = datasets(config)
    config = resolved(config, data)
    machine(config.machine)  # what is wrong with these two is said before anything is written
    _start(out, resume)
    out.mkdir(parents=True, exist_ok=True)
    with _locked(out) if ranks.first else nullcontext():
        session = opened(config, out, (data, holdout), _start(out, resume), say, watch, ranks)
        if ranks.first:
            with whole(out / "run.yaml") as fresh:
                fresh.write_text(write(config))
        return _loop(session)


def train_recipe(
    recipe: str,
    out: str | Path,
    *,
    data: str = "digits",
    settings: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Trained:
    """Train a recipe in the directory `out`, or go on with it, as `logsnr train` does, and load the result.

    settings: leaves of the configuration by dotted name, {"train.minutes": 2, "train.lr": 1e-3, "seed": 1}. ValueError
    in one line for whatever is wrong with recipe, data, settings or directory.
    """
    layers = [nested(key, value) for key, value in {"data.source": data, **(settings or {})}.items()]
    train(resolve(recipe, layers), Path(out), say=say)
    return load(Path(out))


def _start(out: Path, resume: str) -> Path | None:
    newest = checkpoint.latest(out / "checkpoints")
    if resume == "auto":
        return newest
    wanted = None if resume == "none" else find(Path(resume))
    if newest is not None and wanted != newest:
        raise ValueError(f"--resume {resume}, but {out} holds a run at {newest.name}; allowed: another --out, or auto")
    return wanted


def _finished(session: Session) -> bool:
    law, trainer = session.config.train, session.trainer
    return trainer.step >= law.steps or (law.images is not None and trainer.images >= law.images)


def _spent(session: Session) -> float:
    """The share of its minutes that the run has used, 0 where it has no such limit."""
    minutes = session.config.train.minutes
    return session.elapsed / (60 * minutes) if minutes else 0.0


def _wish(session: Session, stop: Stop | None = None) -> int:
    """Whether this rank wants to leave, and why."""
    if _spent(session) >= 1:
        return TIME_IS_UP
    return TOLD_TO_STOP if stop is not None and stop.requested else STAY


def _loop(session: Session) -> Path:
    """Train until finished or told to stop; returns the last checkpoint, raises KeyboardInterrupt if told to stop."""
    trainer, law = session.trainer, session.config.train
    newest = checkpoint.latest(session.out / "checkpoints")
    if _finished(session) or _wish(session):
        session.say(f"already at step {trainer.step}; raise --steps, --minutes or --images to go on")
        return newest or _save(session)
    batches, kind = session.batches.iterate(trainer.step), Journal if session.ranks.first else Unwritten
    with Stop() as stop, kind(session.out / "log.jsonl") as journal, closing(batches):
        journal.keep_until(trainer.step)
        trainer.engine.wish, trainer.engine.clock = partial(_wish, session, stop), partial(_spent, session)
        trainer.engine.spent = _spent(session)  # from the checkpoint, so the same on all ranks
        tick = time.perf_counter()
        for report in _until_not_finite(session, journal, batches):
            # what is logged depends on the step alone, never on where a run was stopped: logs of resumed runs agree,
            # but for what a cooldown by the clock does
            due = partial(_due, report.step)
            joins = session.ranks.first or trainer.engine.together
            if due(law.log_every):
                journal.append(report.record() | (_holdout(session) if joins and due(law.holdout_every) else {}))
            if joins and due(law.preview_every):
                _preview(session)
            session.watch(report)
            session.elapsed += time.perf_counter() - tick
            tick = time.perf_counter()
            over, leaving = _finished(session), trainer.engine.leaving
            if over or leaving or due(law.checkpoint_every):
                journal.sync()
                newest = _save(session)
            if over or leaving:
                break
    assert newest is not None
    if not over and leaving == TOLD_TO_STOP:
        session.say(f"stopped at step {trainer.step} and saved; the same command goes on")
        raise KeyboardInterrupt
    return newest


def _until_not_finite(session: Session, journal: Journal, batches: Iterator[Batch]) -> Iterator[Report]:
    """The trainer's reports; when it gives up on a loss that is not finite, the last good weights are saved first."""
    trainer = session.trainer
    try:
        yield from trainer.steps(batches)
    except NonFiniteLoss as error:
        journal.append({"step": trainer.step, "images": trainer.images, "skipped": True, "error": str(error)})
        journal.sync()
        saved = _save(session)
        raise NonFiniteLoss(f"{error}; the last good weights are in {saved}") from None


def _due(step: int, every: int | None) -> bool:
    return bool(every) and step % (every or 1) == 0


@torch.inference_mode()
def _holdout(session: Session) -> dict[str, float | None]:
    """The averaged weights' loss on held-out examples, always under the same noise."""
    config, count = session.config, min(len(session.holdout), HOLDOUT_MOST)
    total, strata = 0.0, dealt(count, config.seed)
    with session.trainer.averages.swap():
        task = session.trainer.task.eval()
        for index in torch.arange(count).split(config.train.micro_batch or config.train.batch_size):
            x0, given = session.holdout.batch(index.numpy())
            condition = {name: value.to(session.here.device) for name, value in given.items()}
            draws = Draws(-1 - config.seed, 0, strata[index], count)
            total += float(task(x0.to(session.here.device), draws, **condition).total.sum())
        task.train()
    return {"holdout_loss": total / count if math.isfinite(total) else None}


def _preview(session: Session) -> None:
    """Two rows of examples from the same noise: raw weights above, averaged weights below.

    Under conditions: one class after the other, or the conditions of the first held-out examples. A picture is not
    worth a run: what goes wrong with it is said in one line, and the training goes on.
    """
    config, step, transform = session.config, session.trainer.step, session.data.transform
    model = session.trainer.model.eval()
    conditions, here = session.data.conditions, session.here
    trained = Trained(cast(Denoiser, model), config, transform, here, session.out, step, "as they are", conditions)
    index = torch.arange(min(PREVIEW_COUNT, trained.width))
    steps, given = min(PREVIEW_STEPS, sum(section_counts(config.sample.steps))), _shown(session, trained)
    recipe = partial(trained.recipe, sampler="ddim", steps=steps, seed=config.seed, condition=given)
    try:
        raw = trained.sample_x0(index, recipe=recipe())
        with session.trainer.averages.swap():  # a learned schedule is averaged too
            averaged = trained.sample_x0(index, recipe=recipe())
        examples = transform.decode(torch.cat([raw, averaged]))
        if session.ranks.first:
            save_grid(session.out / "previews" / f"step-{step:08d}.png", examples, transform, columns=len(index))
    except (ValueError, OSError) as error:
        session.say(f"no preview at step {step}: {error}")
    finally:
        model.train()


def _shown(session: Session, trained: Trained) -> Callable[[Tensor], Mapping[str, Tensor]]:
    """The conditions of previews, by index."""
    if set(trained.conditions.names) <= {"classes"}:
        return trained.given(classes=range(len(trained.conditions.classes)))
    holdout = session.holdout
    return lambda index: holdout.condition(index.numpy() % len(holdout))


def _save(session: Session) -> Path:
    tensors, values = session.trainer.state()
    state = {
        "trainer": values,
        "seconds": session.elapsed,
        "config": to_dict(session.config),
        "network": session.network,
        "transform": session.data.transform.to_dict(),
        "conditions": session.data.conditions.to_dict(),
        "data": _identity(session.data),
        "holdout": _identity(session.holdout),
        "machine": session.here.record(),
    }
    root, group, together = session.out / "checkpoints", session.ranks, session.trainer.engine.together
    if not (group.first or together):
        return checkpoint.place(root, session.trainer.step)
    rank = group.rank if together else None
    saved = checkpoint.save(root, session.trainer.step, tensors, state, rank=rank)
    if group.first:
        checkpoint.rotate(root, session.config.train.keep)
    return saved


def _identity(data: Dataset) -> dict[str, Any]:
    return {
        "source": data.source,
        "split": data.split,
        "count": len(data),
        "fingerprint": data.fingerprint,
        "conditions": data.condition_fingerprints,
    }


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """One training at a time in a directory; the lock dies with the process."""
    with (out / ".lock").open("w") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process is training in {out}; allowed: wait for it, or another --out") from None
        except (ImportError, OSError):
            pass  # no locks on this system or file system
        yield
