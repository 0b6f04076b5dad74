"""Several draws of one bound make a tighter one: −log (1/K) Σ_k w_k, E[w_k] = p(x) (Burda, Grosse, Salakhutdinov 2016).

By Jensen's inequality it lies above −log p(x) and falls to it as K grows. It holds for whole weights alone: of a chain,
all of its log ratios along one trajectory; of a dequantised density, log p − log q at one draw. An estimate at sampled
times is unbiased for log w, not for w; the mean of its exponentials means nothing and can fall below −log p(x).

Nor is a weight whole whose divergence was estimated by probes. But for any shares s_k that sum to one

    −log (1/K) Σ_k w_k <= Σ_k s_k (log s_k − log w_k) + log K,    equal at s_k ∝ w_k                           (Gibbs)

is linear in log w: with shares that know nothing of its noise, the mean over that noise is still a bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from logsnr.likelihood.estimate import Estimate


def tightened(draws: Sequence[Estimate], guides: Sequence[Estimate] = ()) -> Estimate:
    """−log (1/K) Σ exp(−total_k) of K estimates by whole weights.

    guides: K estimates at the same draws with other probes, whose shares then stand in the Gibbs form; evaluations of
    both are counted. Parts are means over the draws; "importance" is what the K draws gain on their mean, for K > 1.
    """
    log_weight = -torch.stack([estimate.total for estimate in draws])
    guide = -torch.stack([estimate.total for estimate in guides or draws])
    share, log_share = guide.softmax(0), guide.log_softmax(0)
    parts = {name: torch.stack([estimate.parts[name] for estimate in draws]).mean(0) for name in draws[0].parts}
    if len(draws) > 1:
        gibbs = (share * (log_share - log_weight)).sum(0) + math.log(len(draws))
        parts["importance"] = gibbs + log_weight.mean(0)
    errors = {name: (share * torch.stack([e.errors[name] for e in draws])).sum(0) for name in draws[0].errors}
    gamma, nats = torch.cat([e.gamma for e in draws], 1), torch.cat([e.nats for e in draws], 1) / len(draws)
    return Estimate(parts, torch.stack([e.evaluations for e in [*draws, *guides]]).sum(0), gamma, nats, errors)
