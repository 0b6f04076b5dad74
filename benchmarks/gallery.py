"""docs/gallery.md and its pictures, from runs of the gallery.

    logsnr gallery --all --out runs/gallery
    for s in 1 2 3 4 5; do logsnr gallery --analytic --seed $s --out runs/gallery-$s; done
    python benchmarks/gallery.py runs/gallery runs/gallery-?

The first directory gives pictures and figures; the others say how often each demonstration held again. Pictures are
reduced to 128 colours. The findings stand beside them, and the tests see that the page is what they say.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from logsnr.gallery.document import markdown
from logsnr.gallery.page import findings
from logsnr.gallery.show import PAPERS
from logsnr.records import compact

DOCS = Path(__file__).parents[1] / "docs"
COLOURS = 128


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("run", type=Path, help="directory of logsnr gallery --all")
    flags.add_argument("again", type=Path, nargs="*", help="directories of other seeds")
    args = flags.parse_args()
    shown = findings(args.run)
    again: dict[str, list[dict[str, Any]]] = {finding["name"]: [] for finding in shown}
    for finding in (finding for run in args.again for finding in findings(run)):
        kept = ("seed", "verdict", "what", "figure", "standard_error", "bar", "seconds")
        again[finding["name"]].append({key: finding[key] for key in kept})
    folder = DOCS / "gallery"
    folder.mkdir(exist_ok=True)
    for finding in shown:
        finding["again"] = again[finding["name"]]
        for name in PAPERS.values():
            file = name.format(finding["name"])
            Image.open(args.run / file).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(
                folder / file, optimize=True
            )
    (folder / "findings.jsonl").write_text("".join(compact(finding) + "\n" for finding in shown))
    (DOCS / "gallery.md").write_text(markdown(shown))
    print(f"wrote {DOCS / 'gallery.md'}: {len(shown)} demonstrations")
    return 0


def recorded() -> list[dict[str, Any]]:
    """The findings that stand in the documents."""
    return [json.loads(line) for line in (DOCS / "gallery" / "findings.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    sys.exit(main())
