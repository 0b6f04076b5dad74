"""What the defaults of the recipes are chosen by: candidates learn from a part of the training digits, the rest judges.

    python benchmarks/tune.py flow                                      the defaults
    python benchmarks/tune.py ddpm flow --seeds 0 1 --train "" "train.lr=1e-3" "network=tiny train.batch_size=64" \
        --sample "" "sample.sampler.eta=0.5" "sample.sampler.name=ddim sample.sampler.eta=0.5" \
        --record tuning.json

Of the 1300 training digits 1040 are fitted and 260 held back, always the same; the test split is not looked at. Each
--train candidate is trained for the steps that it would make in so many minutes on two quiet cores: those of the
reference, scaled by its user time a step beside the reference's, measured here in turn, so that the machine may be
busy; its cooldown goes by these steps. Each is then sampled in every --sample way. Figures are the loss of the
validation digits, and density, coverage and Fréchet distance of samples beside the fitted digits as ratios to the
validation digits, in groups of as many.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from logsnr.config import RunConfig, assignment, nested, resolve
from logsnr.data import Dataset, load
from logsnr.data.assemble import assemble
from logsnr.data.record import Block, Source, Wish
from logsnr.draws import Draws, dealt
from logsnr.families import FAMILIES
from logsnr.metrics import likeness
from logsnr.run.session import Session, opened, resolved
from logsnr.run.trained import Trained

VALIDATION = 260
REFERENCE = ("ddpm", "network.name=digits network.channels=24 train.batch_size=96 machine.precision=fp32")
REFERENCE_SECONDS = 0.0525  # of its steps on two quiet cores, all that a run does beside them included: set your own
PACE_STEPS, LOSS_ROUNDS = 8, 16


def parts() -> tuple[Dataset, Dataset]:
    """The training digits in two: those that are fitted and those that judge."""
    digits = load("digits")
    raw = digits.raw(np.random.default_rng(0).permutation(len(digits)))
    blocks = {"train": Block(raw[VALIDATION:]), "val": Block(raw[:VALIDATION])}
    fitted, judging = (assemble("digits", Source(blocks, levels=digits.levels), split, Wish()) for split in blocks)
    return fitted, judging


FITTED, JUDGING = parts()


def layers(words: str) -> list[dict[str, Any]]:
    """Settings of a command line, `train.lr=1e-3 network=tiny`, as nested mappings."""
    return [assignment(word) for word in shlex.split(words)]


def configured(recipe: str, words: str, seed: int = 0, minutes: float | None = None) -> RunConfig:
    """A recipe with these settings."""
    return resolved(resolve(recipe, [nested("seed", seed), nested("train.minutes", minutes), *layers(words)]), FITTED)


def started(config: RunConfig) -> Session:
    """A training at step 0 that writes nothing."""
    return opened(config, Path(tempfile.gettempdir()), (FITTED, JUDGING), None, lambda text: None, lambda report: None)


def advance(session: Session, steps: int) -> None:
    """So many steps further."""
    trainer = session.trainer
    target = trainer.step + steps
    for _ in trainer.steps(session.batches.iterate(trainer.step)):
        if trainer.step == target:
            return


def steps_in(minutes: float, config: RunConfig) -> int:
    """How many steps of a configuration two quiet cores make."""
    runs = [started(configured(*REFERENCE)), started(config)]
    seconds: list[list[float]] = [[], []]
    for _ in range(PACE_STEPS):
        for run, found in zip(runs, seconds, strict=True):
            before = time.process_time()
            advance(run, 1)
            found.append(time.process_time() - before)
    ours, theirs = (statistics.median(found) for found in reversed(seconds))
    return round(60 * minutes / REFERENCE_SECONDS * theirs / ours)


@torch.inference_mode()
def validation_loss(session: Session) -> float:
    """Of the averaged weights, the recipe's own, under the same noise for all."""
    task, count = session.trainer.task.eval(), len(JUDGING)
    x0, _ = JUDGING.batch(np.arange(count))
    rounds = (Draws(-1, step, dealt(count, step), count) for step in range(LOSS_ROUNDS))
    losses = [float(task(x0, draws).total.mean()) for draws in rounds]
    task.train()
    return statistics.mean(losses)


def figures(samples: np.ndarray) -> dict[str, float]:
    """Means over groups as large as the validation digits."""
    train, heldout = (data.raw(range(len(data))) for data in (FITTED, JUDGING))
    groups = [likeness(part, train, heldout) for part in np.split(samples, len(samples) // VALIDATION)]
    names = ("density", "coverage", "frechet", "copies")
    return {name: round(statistics.mean(getattr(group, name) for group in groups), 3) for name in names}


def measured(recipe: str, train: str, samplings: Sequence[str], *, seed: int, minutes: float, count: int) -> list[dict]:
    """One training, and a row for each way to sample it."""
    config = configured(recipe, train, seed, minutes)
    session = started(config)
    steps = steps_in(minutes, config)
    session.trainer.engine.clock = lambda: session.trainer.step / steps
    advance(session, steps)
    rows = []
    with session.trainer.averages.swap():
        loss = validation_loss(session)
        model = session.trainer.model.eval()
        trained = Trained(model, config, FITTED.transform, session.here, session.out, steps, "ema", FITTED.conditions)
        for words in samplings:
            chosen = trained.sampled(layers(words))
            samples = chosen.sample(count, seed=seed)
            row = {"recipe": recipe, "train": train, "sample": words, "seed": seed, "steps": steps}
            row |= {"validation_loss": round(loss, 5), "evaluations": chosen.recipe().evaluations, **figures(samples)}
            print(json.dumps(row), flush=True)
            rows.append(row)
    return rows


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"of {', '.join(FAMILIES)} (all)")
    flags.add_argument("--train", nargs="+", default=[""], help="candidates: settings, KEY=VALUE …")
    flags.add_argument("--sample", nargs="+", default=[""], help="candidates: settings of sample, KEY=VALUE …")
    flags.add_argument("--seeds", nargs="+", type=int, default=[0])
    flags.add_argument("--minutes", type=float, default=2.0)
    flags.add_argument("--n", type=int, default=2 * VALIDATION, help=f"samples, a multiple of {VALIDATION}")
    flags.add_argument("--record", type=Path, help="a file that the rows are added to")
    args = flags.parse_args()
    for recipe in args.recipes or list(FAMILIES):
        for train in args.train:
            for seed in args.seeds:
                rows = measured(recipe, train, args.sample, seed=seed, minutes=args.minutes, count=args.n)
                if args.record:
                    known = json.loads(args.record.read_text()) if args.record.exists() else []
                    args.record.write_text(json.dumps([*known, *rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
