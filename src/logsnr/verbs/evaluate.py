"""`logsnr evaluate`: samples of a run, or given ones, beside real examples; a table and metrics.json."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from logsnr.config import MachineConfig
from logsnr.data import Transform
from logsnr.files import whole
from logsnr.metrics import FEATURES, METRICS, Features, Wish
from logsnr.metrics.bootstrap import COVERAGE, FEWEST
from logsnr.metrics.moments import save
from logsnr.records import json_text
from logsnr.registry import lookup
from logsnr.run import evaluate
from logsnr.run.evaluate import Asked, Reals
from logsnr.run.machine import machine
from logsnr.run.ranks import Ranks, ranks
from logsnr.verbs import sample
from logsnr.verbs.console import Console
from logsnr.verbs.layers import machine_options

KEPT = ("checkpoint", "checkpoint_sha256", "weights", "sampler", "options", "steps", "evaluations_per_example")


def run(args: Namespace) -> dict[str, Any]:
    """Measure, print the table, write metrics.json; or write the reference's moments.

    Several processes make the samples together; the first one does the rest.
    """
    with ranks() as group:
        return _run(args, group)


def _run(args: Namespace, group: Ranks) -> dict[str, Any]:
    args.json = args.json and group.first  # several processes, one result
    console, started = Console(args, silent=not group.first), time.monotonic()
    asked = _asked(args)
    sampling = sample.planned(args, 0, args.n) if args.run else None
    if not group.first:
        if sampling and not args.stats_out:
            sample.made(args, console, sampling, torch.arange(args.n), group)
        return {}
    here = sampling.trained.machine if sampling else machine(MachineConfig(**machine_options(args)))
    there = _reals(args, sampling)
    raw, transform, notes = _given(args, sampling, there)
    if not args.stats_out:
        asked.check(args.n if raw is None else len(raw), there.count)  # now, not after an hour of samples
    file = None if args.feature_file is None else Path(args.feature_file)
    wish = Wish(transform, file=file, size=args.feature_size, device=here.device)
    features = evaluate.features_of(args.features, wish, there)
    if args.stats_out:
        return _statistics(args, console, there, features)
    out = Path(args.out) if args.out else sampling.trained.run_dir / "evaluation" if sampling else None
    manifest: dict[str, Any] = {}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    if raw is None:
        assert sampling is not None
        assert out is not None
        raw, manifest = _sampled(args, console, sampling, out, group)
    found = _measured(console, asked, features, raw, transform, there)
    result = {key: manifest.get(key) for key in KEPT} | found | _provenance(args, raw, there, features)
    notes += evaluate.notes(raw, there, features, found["metrics"])
    result |= {"notes": notes, "manifest": manifest, **here.record(), "seconds": time.monotonic() - started}
    for line in table(result):
        console.say(line)
    if out is not None:
        with whole(out / "metrics.json") as fresh:
            fresh.write_text(json_text(result))
        console.say(f"wrote {out / 'metrics.json'} in {result['seconds']:.1f} s")
    return result


def _measured(
    console: Console, asked: Asked, features: Features, raw: np.ndarray, transform: Transform, there: Reals
) -> dict[str, Any]:
    """The figures, with a bar for features and one for metrics."""
    with console.progress(len(raw) + sum(map(len, there.splits)), "features of examples") as progress:
        sets = evaluate.gathered(asked, features, raw, transform, there, advance=progress.advance)
    with console.progress(len(asked.metrics), "metrics") as progress:
        return evaluate.measured(asked, *sets, progress.advance)


def table(result: dict[str, Any]) -> list[str]:
    """A line a figure: value, standard error, interval, and the same of real examples."""
    reference, features = result["reference"], result["features"]
    count, split = result["samples"]["count"], reference["split"]
    lines = [f"{count} samples against {reference['count']} of split {split!r}, features {features['name']}"]
    if features.get("heldout_accuracy") is not None:
        lines[0] += f" (held-out accuracy {features['heldout_accuracy']:.3f})"
    lines.append(f"{'':>20} {'samples':>11} {'± s.e.':>9} {'90 % interval':>24} {'real':>11}")
    for record in result["metrics"].values():
        for name, figure in record["figures"].items():
            error, span, real = (figure[key] for key in ("standard_error", "interval", "real"))
            columns = [
                f"{figure['value']:11.5g}",
                f"{'' if error is None else format(error, '.2g'):>9}",
                f"{'' if span is None else f'{span[0]:.5g} … {span[1]:.5g}':>24}",
                f"{'' if real is None else format(real, '.5g'):>11}",
            ]
            lines.append(f"{name:>20} " + " ".join(columns))
    lines += [f"{name:>20} not computed: {reason}" for name, reason in result["not_computed"].items()]
    return lines + [f"{'note':>20} {note}" for note in result["notes"]]


def _asked(args: Namespace) -> Asked:
    """What to measure. ValueError for flags that make no sense."""
    sample.asked(args)
    if args.bootstrap and args.bootstrap < FEWEST:
        raise ValueError(f"--bootstrap {args.bootstrap}; allowed: 0, or at least {FEWEST}")
    if args.run and args.samples:
        raise ValueError(f"RUN {args.run} and --samples {args.samples}; allowed: one of them")
    if not (args.run or args.samples or (args.stats_out and args.data)):
        raise ValueError("nothing to measure; allowed: RUN, --samples FILE, or --data DATA --stats-out FILE")
    if args.samples and not args.data:
        raise ValueError("--samples without a reference; allowed: --data DATA")
    for name in args.metrics or ():
        lookup(METRICS, name, "metric")
    lookup(FEATURES, args.features, "features")
    tolerant = args.metrics is None
    return Asked(tuple(args.metrics or METRICS), args.seed, args.bootstrap, force=args.force, tolerant=tolerant)


def _reals(args: Namespace, sampling: sample.Sampling | None) -> Reals:
    """The real examples, read as the run read its own unless the flags say otherwise."""
    size, channels, source = args.size, args.channels, args.data
    if sampling is not None:
        own = sampling.trained.config.data
        size, channels, source = size or own.size, channels or own.channels, source or own.source
    single = size[0] if size and len(size) == 1 else size
    return evaluate.reals(source, args.split, size=single, channels=channels or "auto")


def _given(
    args: Namespace, sampling: sample.Sampling | None, there: Reals
) -> tuple[np.ndarray | None, Transform, list[str]]:
    """The samples that are given, None if they will be made; the transform of all, and notes."""
    if args.samples:
        return evaluate.given_samples(args.samples, there.transform)
    own = None if sampling is None else sampling.trained.transform
    transform = there.transform or own
    if transform is None:
        raise ValueError(f"{args.data} does not say what data its moments are of; allowed: RUN, or --samples FILE")
    if own is not None and (own.raw_shape, own.levels) != (transform.raw_shape, transform.levels):
        raise ValueError(
            f"the run makes examples {own.raw_shape} of {own.levels} levels, the data has {transform.raw_shape} "
            f"of {transform.levels}; allowed: data like the run's, see --size and --channels"
        )
    return None, transform, []


def _sampled(
    args: Namespace, console: Console, sampling: sample.Sampling, out: Path, group: Ranks
) -> tuple[np.ndarray, dict[str, Any]]:
    """Raw samples of the run and their manifest; samples.npz and grid.png are written."""
    index = torch.arange(args.n)
    x0, measured = sample.made(args, console, sampling, index, group)
    sample.write(args, sampling, x0, index, out)
    return sampling.trained.transform.decode(x0), sampling.manifest | measured


def _provenance(args: Namespace, raw: np.ndarray, there: Reals, features: Features) -> dict[str, Any]:
    """What the figures depend on beside the model."""
    said = {**there.said, "moments": args.data} if there.said else evaluate.described(there.reference)
    return {
        "samples": {"source": args.samples or args.run, **evaluate.described_samples(raw)},
        "reference": said,
        "real": evaluate.described(there.other),
        "features": dict(features.facts),
        "seed": args.seed,
        "bootstrap": args.bootstrap,
        "interval_coverage": COVERAGE,
        "forced": args.force,
    }


def _statistics(args: Namespace, console: Console, there: Reals, features: Features) -> dict[str, Any]:
    """Write the moments of the reference's features."""
    if there.reference is None:
        raise ValueError(f"{args.data} holds moments already; allowed: --data DATA with examples")
    if Path(args.stats_out).suffix != ".safetensors":
        raise ValueError(f"--stats-out {args.stats_out}; allowed: a name that ends in .safetensors")
    moments, facts = evaluate.moments_of(there.reference, features)
    save(Path(args.stats_out), moments, facts)
    console.say(f"wrote {args.stats_out}: moments of {moments.count} examples, {len(moments.mean)} features")
    return {**facts, "stats": args.stats_out, "count": moments.count, "dimension": len(moments.mean)}
