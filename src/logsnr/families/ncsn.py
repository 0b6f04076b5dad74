"""Noise Conditional Score Networks, NCSN and NCSNv2 (Song and Ermon 2019 and 2020)."""

from typing import Any


def ncsn() -> dict[str, Any]:
    """2019, section 4: ten geometric levels, a network that predicts the score, σ²-weighted denoising score matching.

    The paper's σ from 1 to 0.01 and ε = 2e-5 are for data in [0, 1]; here data fills [−1, 1], so σ is twice and ε four
    times as large, and ε is written in NCSNv2's convention, half of NCSN's: 4 · 2e-5 / 2 = 4e-5, with T = 100. The
    default takes 1.75 times that step and T = 20, a fifth of the evaluations.
    """
    return {
        "schedule": {"name": "sigma_table", "sigma_min": 0.02, "sigma_max": 2.0, "num_diffusion_steps": 10},
        "scale": "ve",
        "target": "score",
        "label": "index",
        "variance": "small",
        "objective": {"loss": "matching", "weight": "simple", "times": {"name": "uniform"}},
        "sample": {
            "sampler": {"name": "annealed_langevin", "n_steps": 20, "step_size": 7e-5},
            "steps": 10,
            "clip": False,
        },
    }


def ncsnv2() -> dict[str, Any]:
    """2020: σ_1 the largest distance of the data, ratio and step size in closed form, s_θ(x, σ) = s_θ(x)/σ, T = 5.

    The levels are the paper's techniques for `digits` in [−1, 1], D = 64; `logsnr explain ncsnv2 --data DATA` gives
    those of other data. ε is 1.3 times the closed form's: ε T/σ_L² over an e-fold of σ is then 5.1 relaxation times,
    where the 232 levels of CIFAR-10 have 8.4 and the 22 of digits would have 4.0. A larger ε relaxes further and blurs
    more: samples are denser, and their moments farther from the data's.
    """
    return {
        "schedule": {"name": "sigma_table", "sigma_min": 0.02, "sigma_max": 9.6, "num_diffusion_steps": 22},
        "scale": "ve",
        "target": "scaled_score",
        "label": "none",
        "variance": "small",
        "objective": {"loss": "matching", "weight": "simple", "times": {"name": "uniform"}},
        "sample": {
            "sampler": {"name": "annealed_langevin", "n_steps": 5, "step_size": 1.2e-4},
            "steps": 22,
            "clip": False,
        },
    }
