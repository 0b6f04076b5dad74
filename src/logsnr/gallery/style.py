"""The look of the pictures: one style file, and two inks for light and for dark paper.

Colours are those of Okabe and Ito, which every eye tells apart; "C0" to "C6" are blue, vermilion, green, purple,
orange, sky and grey on both papers. Truth is drawn in the ink of the text: `ink()`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes

FILE = Path(__file__).with_name("logsnr.mplstyle")
COLOURS = {
    "light": ("#0072B2", "#D55E00", "#009E73", "#B5649A", "#C98A00", "#3A9BD6", "#7A7A7A"),
    "dark": ("#5DADEC", "#FF8C42", "#2FC79A", "#E39CCB", "#F0C04A", "#9AD4FF", "#A8A8A8"),
}
INKS = {"light": ("#FFFFFF", "#222222", "#DDDDDD"), "dark": ("#14171A", "#E8E8E8", "#3A3F44")}  # paper, ink, grid


@contextmanager
def on(paper: str) -> Iterator[None]:
    """Draw on "light" or "dark" paper."""
    back, ink, grid = INKS[paper]
    papers = dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), back)
    inks = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), ink)
    colours = {"axes.prop_cycle": cycler(color=COLOURS[paper]), "grid.color": grid}
    settings: Any = {**matplotlib.rc_params_from_file(FILE, use_default_template=False), **papers, **inks, **colours}
    with matplotlib.rc_context(settings):
        yield


def ink() -> str:
    """The colour of the text, in which the truth is drawn."""
    return str(matplotlib.rcParams["text.color"])


def mosaic(
    axes: Axes, images: np.ndarray, rows: Sequence[str] = (), columns: Sequence[str] = (), low: float = -1.0
) -> None:
    """Grey images (R, C, H, W), black at `low` and white at 1, as one sheet with the paper between them.

    rows, columns: what is written beside each row and above each column.
    """
    down, across, height, width = images.shape
    framed = np.pad(images.astype(float), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    sheet = framed.transpose(0, 2, 1, 3).reshape(down * (height + 1), across * (width + 1))[:-1, :-1]
    axes.imshow(sheet, cmap="gray", vmin=low, vmax=1, interpolation="nearest")
    axes.set_xticks([i * (width + 1) + (width - 1) / 2 for i in range(len(columns))], columns)
    axes.set_yticks([i * (height + 1) + (height - 1) / 2 for i in range(len(rows))], rows)
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
