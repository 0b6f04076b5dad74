"""Samples against real examples: which split stands for what, and everything that the figures depend on.

The reference is the training split unless another is named, as the field has it for Fréchet distances. Real examples of
a split that is not the reference give every figure its scale: as many as there are samples, if there are as many. So
with `train` as reference, `real` is what a perfect model would get; with `test` it is what the training set gets.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from logsnr.data import Dataset, Transform
from logsnr.data import load as load_data
from logsnr.metrics import FEATURES, METRICS, Comparison, Examples, Features, Measurement, Moments, Wish
from logsnr.metrics.features import extract
from logsnr.metrics.moments import load as load_moments
from logsnr.registry import lookup

HELD_OUT = ("test", "val")
JPEG = (".jpg", ".jpeg")


@dataclass(frozen=True)
class Reals:
    """The splits of a data set by their part. other: what the scale is taken from. All but None of one transform.

    statistics: moments of the reference's features, from a file, with what the file says they are of.
    """

    reference: Dataset | None = None
    other: Dataset | None = None
    train: Dataset | None = None
    heldout: Dataset | None = None
    statistics: Moments | None = None
    said: dict[str, str] | None = None

    @property
    def transform(self) -> Transform | None:
        """Of the data, or of that which the moments are of; None for a file that does not say."""
        if self.reference is None:
            said = (self.said or {}).get("transform")
            return None if said is None else Transform.from_dict(json.loads(said))
        return self.reference.transform

    @property
    def splits(self) -> list[Dataset]:
        """Each split that is read, once."""
        parts = (self.reference, self.other, self.train, self.heldout)
        return list({id(data): data for data in parts if data is not None}.values())

    @property
    def count(self) -> int:
        """Examples of the reference."""
        return self.statistics.count if self.statistics else len(self.reference or ())


def reals(source: str, split: str = "train", **options: Any) -> Reals:
    """The splits of `source`, DATA or a file of moments. options: of `data.load`. ValueError for an unknown split."""
    if source.endswith(".safetensors"):
        moments, said = load_moments(Path(source))
        return Reals(statistics=moments, said=said)
    reference = load_data(source, split=split, **options)
    heldout = next((name for name in HELD_OUT if name in reference.splits), None)
    train = "train" if "train" in reference.splits else None
    names = {"train": train, "heldout": heldout, "other": heldout if split == "train" else train}
    loaded = {split: reference}
    for name in names.values():
        if name is not None and name not in loaded:
            loaded[name] = load_data(source, split=name, **options)
    parts = {part: None if name is None else loaded[name] for part, name in names.items()}
    return Reals(reference, parts["other"], parts["train"], parts["heldout"])


def given_samples(path: str, transform: Transform | None) -> tuple[np.ndarray, Transform, list[str]]:
    """All examples of an .npz, .npy, folder …, in the data's own dtype, their transform, and what to know of them.

    transform: of the data they are compared with; without it they bring their own. ValueError if they do not fit it.
    """
    channels: Any = "auto"
    if transform is not None and Path(path).is_dir() and len(transform.shape) == 3 and transform.shape[0] in (1, 3, 4):
        channels = transform.shape[0]
    first = load_data(path, channels=channels)
    parts = [load_data(path, split=name, channels=channels) for name in first.splits]
    raw = np.concatenate([part.raw(range(len(part))) for part in parts])
    if transform is not None:
        if raw.shape[1:] != transform.raw_shape:
            raise ValueError(f"{path} has examples of shape {raw.shape[1:]}; the data has {transform.raw_shape}")
        transform.encode(raw)  # says what is wrong with their range
    lossy = Path(path).is_dir() and any(file.suffix.lower() in JPEG for file in Path(path).rglob("*"))
    notes = ["samples are JPEG files: compression moves every figure; save PNG or .npz"] if lossy else []
    return raw, transform or first.transform, notes


def features_of(name: str, wish: Wish, there: Reals) -> Features:
    """The feature space of that name. ValueError if the reference's moments are of other features."""
    features = lookup(FEATURES, name, "features")(replace(wish, train=there.train, heldout=there.heldout))
    for key, value in (there.said or {}).items():
        ours = features.facts.get(key.removeprefix("features."))
        if key.startswith("features.") and value != str(ours):
            raise ValueError(f"the moments are of features with {key[9:]} {value}; these have {ours}")
    return features


@dataclass(frozen=True)
class Asked:
    """What is to be measured. tolerant: note what cannot be, in place of an error."""

    metrics: tuple[str, ...]
    seed: int = 0
    bootstrap: int = 200
    force: bool = False
    tolerant: bool = False

    def check(self, samples: int, reference: int) -> None:
        """ValueError, before any work, for an unknown metric or too few examples."""
        for name in self.metrics:
            metric = lookup(METRICS, name, "metric")
            if not self.tolerant:
                metric.check(samples, reference, force=self.force)


def gathered(
    asked: Asked,
    features: Features,
    samples: np.ndarray,
    transform: Transform,
    there: Reals,
    *,
    advance: Callable[[int], None] = lambda examples: None,
) -> tuple[Comparison, Comparison | None]:
    """The raw samples (N, *raw_shape) beside the real examples, in features; and real ones beside them, for scale."""
    known: dict[int, Examples] = {}

    def examples(data: Dataset | None) -> Examples | None:
        if data is not None and id(data) not in known:
            known[id(data)] = as_examples(data.raw(range(len(data))))
        return None if data is None else known[id(data)]

    def as_examples(raw: np.ndarray) -> Examples:
        return Examples(transform.encode(raw).numpy(), extract(features, raw, advance))

    compared = Comparison(
        as_examples(samples),
        examples(there.reference),
        *(examples(there.train), examples(there.heldout)),
        statistics=there.statistics,
        seed=asked.seed,
        bootstrap=asked.bootstrap,
        force=asked.force,
    )
    other = examples(there.other)
    if other is None:
        return compared, None
    return compared, replace(compared.instead(other.at_most(len(samples), asked.seed)), bootstrap=0)


def measured(
    asked: Asked,
    compared: Comparison,
    scale: Comparison | None,
    advance: Callable[[int], None] = lambda metrics: None,
) -> dict[str, Any]:
    """Every figure with its error, beside that of `scale`, as plain values; and why some are not there."""
    found: dict[str, Any] = {"metrics": {}, "not_computed": {}}
    for name in asked.metrics:
        started = time.monotonic()
        try:
            measurement = lookup(METRICS, name, "metric")(compared)
        except ValueError as error:
            if not asked.tolerant:
                raise
            found["not_computed"][name] = str(error)
        else:
            record = _record(measurement, _scale(name, scale))
            found["metrics"][name] = record | {"seconds": time.monotonic() - started}
        advance(1)
    return found


def _scale(name: str, scale: Comparison | None) -> Measurement | None:
    """The figures of real examples; None where they cannot be had (too few, or a question of samples alone)."""
    if scale is None:
        return None
    try:
        return METRICS[name](scale)
    except ValueError:
        return None


def _record(measurement: Measurement, real: Measurement | None) -> dict[str, Any]:
    figures = {name: asdict(figure) for name, figure in measurement.figures.items()}
    for name, figure in figures.items():
        figure["real"] = None if real is None else real.figures[name].value
    facts = {**measurement.facts, "real_samples": None if real is None else real.facts.get("samples")}
    return {"figures": figures, **facts}


def described(data: Dataset | None) -> dict[str, Any] | None:
    """What JSON says of a split."""
    if data is None:
        return None
    summary = data.summary()
    kept = ("source", "split", "count", "fingerprint", "resize", "range", "raw_shape", "levels", "notes")
    return {key: summary[key] for key in kept}


def described_samples(samples: np.ndarray) -> dict[str, Any]:
    """Number, dtype, range and SHA-256 of raw samples."""
    digest = hashlib.sha256(np.ascontiguousarray(samples).tobytes()).hexdigest()
    span = [samples.min().item(), samples.max().item()]
    return {"count": len(samples), "dtype": str(samples.dtype), "range": span, "sha256": digest}


def notes(samples: np.ndarray, there: Reals, features: Features, metrics: dict[str, Any]) -> list[str]:
    """What a reader of the figures should know: what makes them incomparable, or a range that is not the data's."""
    found = [record["note"] for record in metrics.values() if "note" in record]
    if "fd" in metrics and not features.facts.get("as_published"):
        found.append(f"fd of features {features.facts['name']} is not comparable with published figures (FID)")
    if there.reference is not None and there.reference.levels is not None:
        low, high = there.reference.summary()["range"]
        if samples.max() - samples.min() < (high - low) / 2:
            found.append(f"samples are from {samples.min()} to {samples.max()}, the data from {low} to {high}")
    return found


def moments_of(data: Dataset, features: Features) -> tuple[Moments, dict[str, str]]:
    """Moments of a split's features, in one pass, and what a file of them says: features, data, split."""

    def chunks() -> Iterable[np.ndarray]:
        for rows in torch.arange(len(data)).split(1024):
            yield extract(features, data.raw(rows.numpy()))

    facts = {f"features.{key}": str(features.facts.get(key)) for key in ("name", "sha256", "resize")}
    facts |= {"transform": json.dumps(data.transform.to_dict()), "data": data.source, "split": data.split}
    facts |= {"fingerprint": data.fingerprint, "count": str(len(data))}
    return Moments.over(chunks()), facts
