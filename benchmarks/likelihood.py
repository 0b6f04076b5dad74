"""What a likelihood costs: the flow's solver beside the field's recipe, and the bound's variance by schedule.

    python benchmarks/likelihood.py flow                 the exact flow on twelve mixtures; a minute
    python benchmarks/likelihood.py variance RUN         vlb(inf) of a trained run, 64 passes each; minutes

flow: mixtures of 12 Gaussians in 64 dimensions with standard deviation 0.5, VP beta-linear, t from 1e-5 to 1, exact
score and divergence. Error: of log p against the exact densities at both ends, the largest over examples, in bits/dim;
the prior's mismatch is stated apart. Beside it the recipe of the field: one RK45 over the whole batch in t, whose state
is x and the integral (scipy), at three tolerances.

variance: standard deviation of a pass over the held-out split, from independent passes over the same examples, of the
diffusion term: uniform independent t on the linear γ, and stratified t on the linear, the run's own and the fitted γ.
One evaluation an example and pass, so that ratios are those per evaluation.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path as File

import numpy as np
import torch
from samplers import draw
from scipy.integrate import solve_ivp
from torch import Tensor

from logsnr import BetaLinear, Path, vp
from logsnr.data.toys import Mixture
from logsnr.draws import Draws
from logsnr.likelihood.flow import EXACT_TOLERANCE, Flow
from logsnr.oracles import Oracle
from logsnr.records import Part
from logsnr.run import fit, load
from logsnr.verbs.audit import examples

PATH = Path(BetaLinear(), vp)
LOW, HIGH = PATH.at(1e-5), PATH.highest
BIT = 64 * math.log(2)


def gained(law: Mixture, x: Tensor, latent: Tensor) -> Tensor:
    """log p_low(x) − log p_high(latent), nats (B,)."""
    return law.log_prob(x, LOW.alpha, LOW.sigma) - law.log_prob(latent, HIGH.alpha, HIGH.sigma)


def field_recipe(law: Mixture, x: Tensor, tolerance: float) -> tuple[Tensor, Tensor, int]:
    """(latents, integral of the divergence (B,), evaluations) of RK45 over the batch, in t."""
    count, model, calls = len(x), Oracle(law), 0

    def slope(t: float, state: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        time = torch.tensor(t, dtype=torch.float64)
        level, beta = PATH.at(time), 0.1 + 19.9 * t
        with torch.enable_grad():
            at = torch.from_numpy(state[: count * 64].reshape(count, 64)).requires_grad_()
            score = model(at, level).score
            rows = torch.eye(64, dtype=torch.float64).unsqueeze(1).expand(-1, count, -1)
            (jacobian,) = torch.autograd.grad(score, at, rows, is_grads_batched=True)
        trace = jacobian.diagonal(dim1=0, dim2=2).sum(1)
        drift = -0.5 * beta * (at + score)
        return torch.cat([drift.detach().flatten(), -0.5 * beta * (64 + trace)]).numpy()

    start = np.concatenate([x.flatten().numpy(), np.zeros(count)])
    found = solve_ivp(slope, (1e-5, 1.0), start, method="RK45", rtol=tolerance, atol=tolerance).y[:, -1]
    return torch.from_numpy(found[: count * 64].reshape(count, 64)), torch.from_numpy(found[count * 64 :]), calls


def flow(seeds: int, count: int) -> None:
    """One line a mixture, and how many pass."""
    passed = 0
    for seed in range(seeds):
        law = draw(seed, 0.2, 0.7, 0.5)
        x = law.sample(count, seed)
        ours = Flow(PATH, LOW, HIGH, 1.0, EXACT_TOLERANCE).exact(Oracle(law), x, {})
        error = float((ours.steps.sum(1) - gained(law, x, ours.latent)).abs().max()) / BIT
        prior = law.log_prob(ours.latent, HIGH.alpha, HIGH.sigma) - ours.prior
        line = f"mixture {seed:2}  ours {int(ours.evaluations.max()):3} at most: {error:.1e}   prior's mismatch "
        line += f"{float(prior.abs().max()) / BIT:.1e}   RK45"
        for tolerance in (1e-3, 1e-4, 1e-5):
            latent, integral, calls = field_recipe(law, x, tolerance)
            # the latents of the two differ: compare whole log densities under the exact law at the top
            wrong = integral - gained(law, x, latent)
            line += f"  {calls}: {float(wrong.abs().max()) / BIT:.1e}"
        passed += int(ours.evaluations.max()) <= 30 and error <= 1e-4
        print(line, flush=True)
    print(f"{passed} of {seeds}: at most 30 evaluations and 1e-4 bits/dim, the largest of {count} examples")


@dataclass(frozen=True)
class Independent(Draws):
    """Draws whose times are not stratified."""

    def stratified(self, name: str) -> Tensor:
        """Independent uniform times."""
        return self.uniform(name)


def variance(run: str, passes: int) -> None:
    """One line a schedule."""
    trained = load(run)
    data, train = examples(trained, None, None), examples(trained, None, "train")
    knots = fit.fit(trained, train, seed=1).knots
    x0, _ = trained.as_trained(data).batch(range(len(data)))
    rows = [("linear", True), ("linear", False), ("own", False), ("fitted", False)]
    first = None
    for times, independent in rows:
        estimator = trained.estimator(Part("vlb_inf", {"times": times, "knots": knots}))
        kind, means = Independent if independent else Draws, list[float]()
        with torch.inference_mode():
            for r in range(passes):
                order = torch.from_numpy(np.random.default_rng([7, r]).permutation(len(x0)))
                found = [
                    estimator.estimate(trained.model, x0[i], kind(7, r, order[i], len(x0))).parts["diffusion"]
                    for i in torch.arange(len(x0)).split(trained.width)
                ]
                means.append(float(torch.cat(found).mean()))
        spread = float(np.std(means, ddof=1)) / (x0[0].numel() * math.log(2))
        first = first or spread
        word = "independent" if independent else "stratified"
        print(f"{times:>8} γ, {word} t: {spread:.5f} bits/dim a pass, {spread / first:.2f} of the first", flush=True)


def main() -> None:
    """Parse and run."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("what", choices=("flow", "variance"))
    flags.add_argument("run", nargs="?", type=File)
    flags.add_argument("--seeds", type=int, default=12)
    flags.add_argument("--n", type=int, default=16)
    flags.add_argument("--passes", type=int, default=64)
    args = flags.parse_args()
    if args.what == "flow":
        flow(args.seeds, args.n)
    elif args.run is None:
        flags.error("variance needs a RUN")
    else:
        variance(str(args.run), args.passes)


if __name__ == "__main__":
    main()
