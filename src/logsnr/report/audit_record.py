"""The record of an audit: everything its figures depend on, what they may be compared with, and the table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from logsnr.data import Dataset
from logsnr.likelihood.audit import Records, Units, orders, summary, triangulation
from logsnr.run.trained import Trained
from logsnr.train import checkpoint


def units_of(trained: Trained, data: Dataset) -> Units:
    """Bits/dim of discrete data, nats/dim in the data's own units of continuous data."""
    transform = trained.transform
    discrete = transform.lattice is not None
    return Units(math.prod(data.shape), discrete, 0.0 if discrete else transform.nats_per_dim_offset)


def record(
    trained: Trained,
    data: Dataset,
    options: Mapping[str, Mapping[str, Any]],
    found: Mapping[str, Records],
    index: range,
    *,
    seed: int,
) -> dict[str, Any]:
    """The figures and everything they depend on, as plain values.

    options: of the estimators by name. index: the audited examples of `data`.
    """
    units, transform = units_of(trained, data), trained.transform
    return {
        "kind": "logsnr-audit-1",
        "checkpoint": trained.source.name,
        "checkpoint_sha256": checkpoint.fingerprint(trained.source),
        "weights": trained.weights,
        "step": trained.step,
        "data": {
            "source": data.source,
            "split": data.split,
            "examples_in_split": len(data),
            "fingerprint": data.fingerprint,
            "resize": data.facts["resize"],
            "shape": list(transform.raw_shape),
            "levels": transform.levels,
        },
        "conditions": list(trained.conditions.names),
        "examples": len(index),
        "index": [index.start, index.stop],
        "one_exact_pass": len(index) == len(data),
        "seed": seed,
        "unit": units.name,
        "dims": units.dims,
        "offset": transform.bits_per_dim_offset if units.discrete else units.offset_nats_per_dim,
        "estimators": {
            name: summary(records, units) | {"options": _kept(options[name])} for name, records in found.items()
        },
        "triangulation": triangulation(found, orders({name: r.name for name, r in found.items()}), units),
        "warnings": warnings(found, units, transform.levels),
        "comparable": comparable(trained, data, len(index) == len(data)),
        **trained.machine.record(),
    }


def _kept(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: [list(pair) for pair in value] if key == "knots" else value for key, value in options.items()}


def warnings(found: Mapping[str, Records], units: Units, levels: int | None) -> list[str]:
    """What cannot be right, or says that a model knows less than nothing."""
    notes = []
    for records in found.values():
        mean = units.per_dim(float(records.total.mean()))
        if levels is not None and mean > math.log2(levels):
            notes.append(
                f"{records.name}: {mean:.3f} bits/dim is more than {math.log2(levels):.3f}, that of uniform noise: the "
                "model, or a sign or direction, is wrong"
            )
        if levels is not None and mean < 0:
            notes.append(f"{records.name}: {mean:.3f} bits/dim is below 0, which no probability has")
    return notes


def comparable(trained: Trained, data: Dataset, whole_split: bool) -> dict[str, Any]:
    """What these figures may stand beside, and what not."""
    transform, resized = trained.transform, data.facts["resize"]
    what = f"{transform.levels} levels" if transform.levels else "continuous values in the units of the file"
    without = ["figures of another kind of estimator: a bound of T steps, one in continuous time and a density differ"]
    if resized:
        without.append(f"figures on images of another size or another resize than {resized}")
    if trained.conditions.names:
        without.append("unconditional figures: these are of −log p(x | c)")
    if not whole_split:
        without.append("figures of the whole split: this is a part of it")
    if transform.levels is None:
        without.append(
            "bits/dim of discrete data: these are densities, whose value changes with the unit of measurement"
        )
    return {"with": f"the same data (fingerprint {data.fingerprint[:16]}), {what}", "not_with": without}


def lines(result: Mapping[str, Any]) -> list[str]:
    """The tables of the terminal."""
    unit, data = str(result["unit"]), result["data"]
    made = [
        f"{result['examples']} examples of {data['source']} {data['split']}, each once "
        + ("(one exact pass)" if result["one_exact_pass"] else "(a part of the split)")
        + f"; {result['weights']} weights of {result['checkpoint']}",
        f"{'':24}{'nats':>12}{unit.replace('_', ' '):>16}{'± examples':>14}{'± Monte Carlo':>16}",
    ]
    for found in result["estimators"].values():
        made += _block(found, unit)
    for row in result["triangulation"]:
        otherwise = "VIOLATED" if row["kind"] != "optimal" else "does not hold: no exact denoiser, or other decoders"
        pair = f"{row['lower']} {'=' if row['kind'] == 'same' else '<='} {row['upper']}"
        made.append(
            f"{pair}: by {row[f'difference_{unit}']:.4f} "
            f"± {row[f'standard_error_{unit}']:.4f}, {'holds' if row['holds'] else otherwise}"
        )
    if "foreign" in result:
        judged = result["foreign"]
        made.append(
            f"{judged['data']['source']} told apart: AUROC {judged['auroc_likelihood']:.3f} by likelihood, "
            f"{judged['auroc_typicality']:.3f} by typicality"
        )
    return [*made, *(f"warning: {note}" for note in result["warnings"])]


def _block(found: Mapping[str, Any], unit: str) -> list[str]:
    """One estimator's rows."""
    evaluations = found["evaluations_per_example"]
    counted = f"{evaluations['mean']:.4g} evaluations an example, {evaluations['largest']} at most"
    made = [f"{found['estimator']}  ({found['repeats']} repeats, {counted})"]
    for name, row in [*found["parts"].items(), ("total", found["total"])]:
        errors = [row[f"{kind}_{unit}"] for kind in ("standard_error", "monte_carlo_standard_error")]
        shown = ["?" if error is None else f"{error:.4f}" for error in errors]
        made.append(f"{name:>22}  {row['nats']:12.3f}{row[unit]:16.4f}{shown[0]:>14}{shown[1]:>16}")
    known = {key.replace("_", " "): value for key, value in found["errors"].items() if value is not None}
    return [*made, f"{'errors':>22}  " + "; ".join(f"{key} {value:.2g}" for key, value in known.items())]
