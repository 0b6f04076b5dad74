"""`logsnr audit`: the likelihood of every example of a split, once, as a table, audit.json and audit.npz."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from logsnr.data import Dataset
from logsnr.data import load as load_data
from logsnr.files import whole
from logsnr.likelihood import ESTIMATORS, Estimator
from logsnr.likelihood.audit import Records
from logsnr.pictures import save_grid
from logsnr.records import Part, json_text, number
from logsnr.registry import lookup
from logsnr.report import audit as report
from logsnr.report.audit_record import lines, record, units_of
from logsnr.run import fit as schedules
from logsnr.run.ranks import Ranks, ranks
from logsnr.run.trained import Trained, load
from logsnr.verbs.console import Console
from logsnr.verbs.layers import machine_options

EXTREMES = 32
REPEATS = 4


def run(args: Namespace) -> dict[str, Any]:
    """Audit, write and print; only the first of several processes does the last two."""
    if (args.repeats is not None and args.repeats < 1) or not 0 <= args.seed < 2**63:
        raise ValueError(f"--repeats {args.repeats}, --seed {args.seed}; allowed: at least 1, 0 to 2**63 - 1")
    with ranks() as group:
        return _audit(args, group)


def _audit(args: Namespace, group: Ranks) -> dict[str, Any]:
    args.json = args.json and group.first  # several processes, one result
    console, started = Console(args, silent=not group.first), time.monotonic()
    trained = load(args.run, weights=args.weights, exact=True, **machine_options(args))
    data = examples(trained, args.data, args.split)
    index = range(*args.index) if args.index else range(len(data))
    if index.stop > len(data):
        raise ValueError(f"--index {index.start}:{index.stop} of {len(data)} examples; allowed: up to {len(data)}")
    parts = asked(args, trained)
    out = Path(args.out) if args.out else trained.run_dir / "audit"
    estimators = {name: trained.estimator(part) for name, part in parts.items()}
    if args.dry_run:
        console.say(f"{len(index)} examples of {data.source} {data.split}, {', '.join(parts)}, to {out}")
        return {"run": str(args.run), "data": data.source, "split": data.split, "examples": len(index), "out": str(out)}
    found, seconds = _walked(args, console, trained, data, estimators, index, group)
    options = {name: {**estimators[name].settings, **part.options} for name, part in parts.items()}
    result = {
        "run": str(args.run),
        **record(trained, data, options, found, index, seed=args.seed),
        "seconds": seconds,
    }
    if args.ood:
        result["foreign"] = _foreign(args, console, trained, found, estimators, group)
    result["seconds_in_all"] = time.monotonic() - started
    if group.first:
        _write(out, trained, data, found, result, list(index))
        for line in lines(result):
            console.say(line)
        console.say(f"wrote {out / 'audit.json'}, audit.npz, curves.png in {result['seconds_in_all']:.1f} s")
    return {
        **result,
        "status": 0 if all(row["holds"] or row["kind"] == "optimal" for row in result["triangulation"]) else 1,
    }


def examples(trained: Trained, source: str | None, split: str | None) -> Dataset:
    """The data asked for, as the run reads its own; the split held out from training unless told."""
    own = trained.config.data
    size = own.size[0] if own.size and len(own.size) == 1 else own.size
    options: dict[str, Any] = {"size": size, "channels": "auto" if own.channels is None else own.channels}
    chosen = source or own.source
    if split is None:
        there = load_data(chosen, split="train", **options).splits
        split = next((name for name in ("test", "val") if name in there), "train")
    return load_data(chosen, split=split, **options)


def asked(args: Namespace, trained: Trained) -> dict[str, Part]:
    """Estimators by name, with the options of --steps and --set NAME.OPTION=VALUE.

    vlb_inf draws its times by RUN/schedule.json where there is one, else by a schedule fitted on a few training draws.
    """
    known = ESTIMATORS[trained.config.bound.name]
    for name in args.estimators:
        lookup(known, name, "estimator")
    options: dict[str, dict[str, Any]] = {name: {} for name in args.estimators}
    if args.steps is not None:
        for name in options.keys() & {"vlb", "iwae"}:
            options[name]["steps"] = args.steps
    for text in args.assignments:
        place, equals, value = text.partition("=")
        name, dot, key = place.partition(".")
        if not (equals and dot and name in options):
            raise ValueError(f"--set {text}; allowed: NAME.OPTION=VALUE with NAME of {', '.join(options)}")
        options[name][key] = _plain(value)
    if "vlb_inf" in options and "times" not in options["vlb_inf"]:
        file = trained.run_dir / schedules.FILE
        if args.dry_run:  # whatever it would be fitted to
            return {name: Part(name, chosen) for name, chosen in options.items()}
        if file.is_file():
            knots = schedules.knots_for(trained, file)
        else:
            train = examples(trained, None, "train")
            knots = schedules.fit(trained, train, seed=args.seed + 1).knots
        options["vlb_inf"] |= {"times": "fitted", "knots": knots}
    return {name: Part(name, chosen) for name, chosen in options.items()}


def _plain(text: str) -> Any:
    value = number(text)
    return int(value) if isinstance(value, float) and value.is_integer() and "." not in text else value


def _walked(
    args: Namespace,
    console: Console,
    trained: Trained,
    data: Dataset,
    estimators: Mapping[str, Estimator],
    index: range,
    group: Ranks,
) -> tuple[dict[str, Records], dict[str, float]]:
    """The records of each estimator and the seconds it took."""
    found, seconds = dict[str, Records](), dict[str, float]()
    with console.progress(len(index) * len(estimators), "examples × estimators") as progress:
        for name, estimator in estimators.items():
            started = time.monotonic()
            options = {"seed": args.seed, "repeats": _repeats(args, name), "ranks": group, "index": list(index)}
            found |= trained.records(data, {name: estimator}, advance=progress.advance, **options)
            seconds[name] = time.monotonic() - started
    return found, seconds


def _repeats(args: Namespace, name: str) -> int:
    """Of an estimator: those asked for, or four of the ones that read an example at a few levels only."""
    return int(args.repeats or (REPEATS if name.startswith("vlb") else 1))


def _foreign(
    args: Namespace,
    console: Console,
    trained: Trained,
    found: Mapping[str, Records],
    estimators: Mapping[str, Estimator],
    group: Ranks,
) -> dict[str, Any]:
    """The first estimator's values of other data beside those of the audited."""
    other, (name, estimator) = examples(trained, args.ood, None), next(iter(estimators.items()))
    with console.progress(len(other), "other examples") as progress:
        options = {"seed": args.seed, "repeats": _repeats(args, name), "ranks": group}
        records = trained.records(other, {name: estimator}, advance=progress.advance, **options)[name]
    judged = report.foreign(found[name].examples.numpy(), records.examples.numpy(), args.seed)
    source = {"source": other.source, "split": other.split, "fingerprint": other.fingerprint, "examples": len(other)}
    return {"data": source, "estimator": records.name, **judged}


def _write(
    out: Path, trained: Trained, data: Dataset, found: Mapping[str, Records], result: dict[str, Any], index: list[int]
) -> None:
    """audit.npz, audit.json, curves.png, and hardest.png and easiest.png by the first estimator."""
    out.mkdir(parents=True, exist_ok=True)
    first, units = next(iter(found)), units_of(trained, data)
    values = found[first].examples.numpy()
    arrays: dict[str, Any] = {"index": np.array(index)}
    for name, records in found.items():
        arrays[f"{name}/nll_nats"] = records.examples.numpy()
        arrays[f"{name}/evaluations"] = records.evaluations.sum(0).numpy()
        arrays |= {f"{name}/{part}_nats": nats.mean(0).numpy() for part, nats in records.parts.items()}
    if data.labels is not None:
        labels = data.labels.numpy()[index]
        arrays["labels"] = labels
        scale = units.per_dim(1.0)
        result["per_class"] = report.per_class(scale * values, labels, data.classes)
    hardest, easiest = report.extremes(values, EXTREMES)
    result["hardest"], result["easiest"] = ([index[i] for i in chosen] for chosen in (hardest, easiest))
    with whole(out / "audit.npz") as fresh, fresh.open("wb") as file:
        np.savez_compressed(file, **arrays)
    with whole(out / "audit.json") as fresh:
        fresh.write_text(json_text(result))
    report.draw_curves(out / "curves.png", result["estimators"], units.name)
    for name in ("hardest", "easiest"):
        if result[name]:
            save_grid(out / f"{name}.png", data.raw(result[name]), trained.transform, columns=8)
