"""One pass over a data set: every example once, by every estimator, in each of R independent repeats.

The network sees one width, as in sampling; example i does not depend on its neighbours, on the batch size or on the
number of processes. Strata of t are dealt to the examples at random, anew in each repeat: data that stands in the order
of its classes would else see one stretch of t a class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from logsnr.data import Dataset
from logsnr.denoiser import Conditioned, Model
from logsnr.draws import Draws, dealt
from logsnr.likelihood import Estimate, Estimator
from logsnr.likelihood.audit import Records
from logsnr.run.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Pass:
    """width: examples in every call of the network. repeats: R. ranks: who shares the work."""

    width: int
    device: torch.device
    seed: int = 0
    repeats: int = 1
    ranks: Ranks = ALONE


def audited(
    model: Model,
    data: Dataset,
    estimators: Mapping[str, Estimator],
    how: Pass,
    *,
    index: Sequence[int] | None = None,
    advance: Callable[[int], None] = lambda examples: None,
) -> dict[str, Records]:
    """What each estimator found for the examples `index` of `data`, all of them unless told, in their order.

    The same on every rank. The model is asked under the conditions that the data comes with: −log p(x | c).
    """
    ranks, repeats = how.ranks, range(how.repeats)
    chosen = torch.arange(len(data)) if index is None else torch.as_tensor(index)
    strata = [dealt(len(data), (how.seed, r)) for r in repeats]
    parts = list(chosen.split(how.width))
    found: dict[str, list[list[Estimate]]] = {name: [] for name in estimators}
    with torch.inference_mode():
        # a rank without examples asks one, to know what the others gather, and keeps nothing of it
        for rows in ranks.mine(parts) or [chosen[:0]]:
            filler = rows[-1:] if len(rows) else chosen[:1]
            padded = torch.cat([rows, filler.expand(how.width - len(rows))])
            x0, given = data.batch(padded.numpy())
            x0 = x0.to(how.device)
            bound = Conditioned(model, {name: value.to(x0.device) for name, value in given.items()})
            for name, estimator in estimators.items():
                draws = [Draws(how.seed, r, strata[r][padded], len(data)) for r in repeats]
                found[name].append([_rows(estimator.estimate(bound, x0, d), len(rows)) for d in draws])
                advance(len(rows))

    def joined(rows: Tensor) -> Tensor:
        return ranks.whole(rows, len(chosen), how.width)

    return {key: _records(estimators[key].name, chunks, joined) for key, chunks in found.items()}


def _rows(estimate: Estimate, count: int) -> Estimate:
    """Its first `count` examples, float64 on the CPU."""
    return Estimate(
        {name: part[:count].cpu().double() for name, part in estimate.parts.items()},
        estimate.evaluations[:count].cpu(),
        estimate.gamma[:count].cpu().double(),
        estimate.nats[:count].cpu().double(),
        {name: error[:count].cpu().double() for name, error in estimate.errors.items()},
    )


def _records(name: str, chunks: list[list[Estimate]], joined: Callable[[Tensor], Tensor]) -> Records:
    """Chunks of R repeats each, of all ranks, as one record in the order of the data."""

    def whole(field: Callable[[Estimate], Tensor]) -> Tensor:
        """(R, N, …) of one field (n, …); examples with fewer levels than others have zeros."""
        fields = [[field(estimate) for estimate in chunk] for chunk in chunks]
        if fields[0][0].ndim == 2:
            most = max(rows.shape[1] for chunk in fields for rows in chunk)
            fields = [[torch.nn.functional.pad(rows, (0, most - rows.shape[1])) for rows in chunk] for chunk in fields]
        rows = torch.cat([torch.stack(chunk, 1) for chunk in fields])
        return joined(rows).movedim(1, 0)

    def named(field: Callable[[Estimate], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        keys = list(field(chunks[0][0]))
        if not keys:
            return {}
        stacked = whole(lambda estimate: torch.stack([field(estimate)[key] for key in keys], 1))
        return {key: stacked[..., i] for i, key in enumerate(keys)}

    return Records(
        name,
        named(lambda estimate: estimate.parts),
        whole(lambda estimate: estimate.evaluations),
        whole(lambda estimate: estimate.gamma),
        whole(lambda estimate: estimate.nats),
        named(lambda estimate: estimate.errors),
    )
