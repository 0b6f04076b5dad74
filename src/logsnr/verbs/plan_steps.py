"""`logsnr plan-steps`: the K steps that lose least of the bound, predicted, and measured on held-out data."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from logsnr.files import whole
from logsnr.level import Level
from logsnr.records import json_text
from logsnr.report.audit_record import units_of
from logsnr.run import plan
from logsnr.run.trained import Trained, load
from logsnr.train import checkpoint
from logsnr.verbs.audit import examples
from logsnr.verbs.console import Console
from logsnr.verbs.layers import machine_options

REPEATS = 4


def run(args: Namespace) -> dict[str, Any]:
    """Choose on training examples, measure on held-out ones beside the usual grids, write the plan."""
    if args.budget < 2 or args.examples < 2 or args.candidates < args.budget:
        given = f"--budget {args.budget}, --examples {args.examples}, --candidates {args.candidates}"
        raise ValueError(f"{given}; allowed: >= 2, >= 2, >= --budget")
    console = Console(args)
    trained = load(args.run, weights=args.weights, exact=True, **machine_options(args))
    train, heldout = examples(trained, args.data, "train"), examples(trained, args.data, args.split)
    units, levels = units_of(trained, heldout), plan.candidates(trained, args.candidates)
    with console.progress(min(args.examples, len(train)), "examples") as progress:
        cost = plan.terms(trained, train, levels, examples=args.examples, seed=args.seed, advance=progress.advance)
    chosen, grid = plan.planned(cost, levels, args.budget)
    # a chain that was not planned has the floor of its own last step, as everywhere else
    rows = {"planned": (grid, levels), **{name: (own, own) for name, own in usual(trained, args.budget).items()}}
    found = {
        name: plan.measured(trained, heldout, *row, units, seed=args.seed + 1, repeats=REPEATS)
        for name, row in rows.items()
    }
    record = {
        "kind": plan.KIND,
        "checkpoint_sha256": checkpoint.fingerprint(trained.source),
        "steps": args.budget,
        "times": grid.t.tolist(),
        "log_snr": grid.log_snr.tolist(),
        f"predicted_terms_{units.name}": units.per_dim(chosen.nats),
        "measured": found,
        "chosen_on": {"split": train.split, "fingerprint": train.fingerprint, "examples": args.examples},
        "measured_on": {"split": heldout.split, "fingerprint": heldout.fingerprint, "examples": len(heldout)},
        "seed": args.seed,
    }
    out = Path(args.out) if args.out else trained.run_dir / f"plan-{args.budget}.json"
    with whole(out) as fresh:
        fresh.write_text(json_text(record))
    console.say(
        f"{args.budget} steps, predicted {units.per_dim(chosen.nats):.4f} {units.name} without the prior; measured"
    )
    for name, row in found.items():
        error = row[f"monte_carlo_standard_error_{units.name}"]
        console.say(f"{name:>10}  {row[units.name]:.4f} ± {error:.4f} {units.name}")
    console.say(f"wrote {out}")
    return {"out": str(out), **record}


def usual(trained: Trained, steps: int) -> dict[str, Level]:
    """Grids of as many steps that know nothing of the terms."""
    path = trained.model.path
    names = ["uniform", "log_snr"] if path.highest.gamma.isfinite() else ["uniform"]
    return {name: path.grid(steps, "clean", name) for name in names}
