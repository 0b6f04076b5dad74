"""`logsnr fit-schedule`: the variance-minimising γ of a trained run, the network left as it is."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from logsnr.report.schedule import draw_fit
from logsnr.run import fit
from logsnr.run.trained import load
from logsnr.verbs.audit import examples
from logsnr.verbs.console import Console
from logsnr.verbs.layers import machine_options


def run(args: Namespace) -> dict[str, Any]:
    """Fit, write schedule.json and a picture of it, and say what it gains."""
    if args.draws < fit.FEWEST_DRAWS:
        raise ValueError(f"--draws {args.draws}; allowed: at least {fit.FEWEST_DRAWS}, better thousands")
    console = Console(args)
    trained = load(args.run, weights=args.weights, exact=True, **machine_options(args))
    data = examples(trained, args.data, args.split or "train")
    with console.progress(args.draws, "draws") as progress:
        found = fit.fit(trained, data, draws=args.draws, seed=args.seed, advance=progress.advance)
    out = Path(args.out) if args.out else trained.run_dir / fit.FILE
    fit.save(found, out)
    draw_fit(out.with_suffix(".png"), trained.model.path, found)
    console.say(f"variance of one draw of the diffusion term, nats² ({data.source} {data.split})")
    for name, value in found.record["variance_nats2_of_one_draw"].items():
        console.say(f"{name:>10}  {'not in continuous time' if value is None else format(value, '.4g')}")
    console.say(f"wrote {out} and {out.with_suffix('.png').name}; vlb_inf of an audit draws its times by it")
    return {"out": str(out), **found.record}
