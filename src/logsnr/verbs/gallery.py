"""`logsnr gallery`: the papers' claims, shown."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from logsnr.files import whole
from logsnr.gallery import Exhibit, Setting
from logsnr.gallery.catalogue import exhibit, exhibits
from logsnr.gallery.page import findings, write_page
from logsnr.gallery.show import HOLDS, line, show
from logsnr.records import compact
from logsnr.verbs.console import Console


def run(args: Namespace) -> dict[str, Any]:
    """List the demonstrations, or run those that were asked for and write the page; status 1 if a claim fails."""
    console, chosen = Console(args), _chosen(args)
    if args.list or not chosen:
        for each in exhibits():
            console.say(f"{each.name:>4}  {each.title}")
        return {"demonstrations": [{"name": each.name, "title": each.title} for each in exhibits()]}
    if not 0 <= args.seed < 2**63:
        raise ValueError(f"--seed {args.seed}; allowed: 0 to 2**63 - 1")
    out = Path(args.out)
    console.say(f"gallery: {out}")
    setting = Setting(args.seed, out / "models", args.quick, console.say if console.lines else lambda text: None)
    shown, failed = [], []
    with console.progress(len(chosen), "demonstration") as progress:
        for each in chosen:
            try:
                shown.append(show(each, setting, out))
                console.say(line(shown[-1]))
            except (ArithmeticError, RuntimeError, ValueError) as error:  # one of them is not worth the others
                failed.append(f"{each.name}: {' '.join(str(error).split())}")
                console.say(f"failed {failed[-1]}")
            progress.advance(note=each.name)
            with whole(out / "findings.jsonl") as fresh:
                fresh.write_text("".join(compact(finding) + "\n" for finding in findings(out)))
    page = write_page(out)
    held = sum(finding["verdict"] == HOLDS for finding in shown)
    console.say(f"{held} of {len(chosen)} hold; page: {page}")
    return {"findings": shown, "failed": failed, "page": str(page), "status": 0 if held == len(chosen) else 1}


def _chosen(args: Namespace) -> list[Exhibit[Any]]:
    sets = [f"--{name}" for name in ("all", "analytic") if vars(args)[name]]
    if len(sets) + bool(args.names) > 1:
        raise ValueError(f"{' '.join([*args.names, *sets])}; allowed: names, --all or --analytic")
    if args.names:
        return [exhibit(name) for name in args.names]
    known = exhibits() if args.all or args.analytic or args.quick else []
    return [each for each in known if args.all or not each.trained]
