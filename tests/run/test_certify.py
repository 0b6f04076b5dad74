"""`sample --certify`: orders are measured right on an exact model, and a sampler that walks elsewhere is caught."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from logsnr.data.toys import gaussian, mixture
from logsnr.dynamics import dynamics, reverse_drift
from logsnr.level import over
from logsnr.oracles import Oracle
from logsnr.path import Path as Process
from logsnr.report import certify as room
from logsnr.report.certify import Make, certify, deterministic, levels
from logsnr.samplers import DDIM, SAMPLERS, Multistep, Sampler, Step, evaluations
from logsnr.scales import SCALES
from logsnr.schedules import BetaLinear, Linear, geometric
from tests.run.test_errors import one_line

Verb = Callable[..., tuple[int, str, str]]
TWO = Oracle(mixture(torch.tensor([0.3, 0.7]), torch.tensor([[-1.0, 0.5], [1.0, 1.0]]), 0.09))
NOISE = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
PATHS = {
    "vp": lambda: Process(BetaLinear(), SCALES["vp"]),
    "ve": lambda: Process(geometric(0.01, 50), SCALES["ve"]),
    "straight": lambda: Process(Linear(-30, 30), SCALES["straight"]),
}


class Scaled(Sampler):
    """DDIM whose noise is off by a factor at every step: it converges, to another solution."""

    order, scale_free, stochastic = 1, True, False

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def step(self, model: Any, x: torch.Tensor, t: Any, s: Any, *, noise: Any, memory: Any = None) -> Step:
        p = model(x, t)
        ratio = torch.exp(s.log_sigma - t.log_sigma)
        away = over(ratio - torch.exp(s.log_alpha - t.log_alpha), x) * over(t.sigma, x) * p.eps
        moved = over(torch.exp(s.log_alpha - t.log_alpha), x) * x + self.factor * away
        return Step(moved, moved, p, s, evaluations(x, 1))


@pytest.mark.parametrize("path", PATHS)
def test_the_registry_meets_on_an_exact_model_with_the_declared_orders(path: str) -> None:
    process = PATHS[path]()
    samplers, _ = deterministic(process, "small")
    assert {"auto", "ddim", "heun", "multistep", "dpmpp_2m", "adaptive"} <= samplers.keys()
    assert not {"ancestral", "annealed_langevin", "predictor_corrector"} & samplers.keys()
    if path != "vp":
        samplers = {name: samplers[name] for name in ("ddim", "heun", "multistep")}
    found = certify(TWO, process, samplers, NOISE, steps=(40, 80, 160))
    assert found.meet, "\n".join(found.lines())
    tracks = {track.name: track for track in found.tracks}
    for name in samplers.keys() & {"ddim", "euler", "heun", "multistep", "dpmpp_2m"}:
        track = tracks[name]
        assert track.measured is not None
        assert track.declared is not None
        low = track.declared - 0.35
        assert low < track.measured < track.declared + (1.3 if name == "multistep" else 0.6), track
        assert track.distances[0] > track.distances[-1]
    assert all(track.limit < 5e-3 for track in found.tracks)
    assert tracks["heun"].distances[-1] < 0.1 * tracks["ddim"].distances[-1]


def test_the_common_solution_is_the_flow_of_a_gaussian() -> None:
    process, law = PATHS["vp"](), gaussian(torch.tensor([0.5, -1.0]), torch.tensor([0.25, 0.04]))
    found = certify(Oracle(law), process, {"fourth": lambda n: Multistep(4, corrector=True)}, NOISE, steps=(160, 320))
    grid = levels(process, 10)
    first, last = grid[0], grid[-2]
    std = [(level.alpha**2 * law.variances[0] + level.sigma**2).sqrt() for level in (first, last)]
    x = last.alpha * law.means[0] + std[1] / std[0] * (first.sigma * NOISE - first.alpha * law.means[0])
    exact = Oracle(law)(x, last).x0
    assert torch.allclose(found.x0["fourth"], exact, rtol=0, atol=2e-5)
    assert grid[-1].is_clean
    assert grid.gamma[:-1].diff().std() < 1e-9, "equal steps of log-SNR"


@pytest.mark.parametrize("factor", [0.97, 1.03])
def test_a_sampler_that_arrives_elsewhere_is_caught(factor: float) -> None:
    process = PATHS["vp"]()
    ways: dict[str, Make] = {"wrong": lambda steps: Scaled(factor), "right": lambda steps: Scaled(1.0)}
    ways |= {"ddim": lambda steps: DDIM(), "multistep": lambda steps: Multistep(3)}
    found = certify(TWO, process, ways, NOISE, steps=(40, 80, 160))
    assert not found.meet
    assert {track.name: track.meets for track in found.tracks} == {
        "wrong": False,
        "right": True,
        "ddim": True,
        "multistep": True,
    }
    assert "DOES NOT MEET" in "\n".join(found.lines())


def test_nine_examples_of_ten_must_arrive() -> None:
    """A bifurcation takes one; a sampler that is wrong for half of them is wrong."""

    class Partly(DDIM):
        def __init__(self, wrong: int) -> None:
            super().__init__()
            self.wrong = wrong

        def step(self, *given: Any, **more: Any) -> Step:
            step = super().step(*given, **more)
            factor = torch.where(torch.arange(len(step.x)) < self.wrong, 1.5, 1.0).reshape(-1, 1)
            return Step(step.x * factor, step.mean, step.prediction, step.level, step.evaluations)

    many = torch.randn(12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    half = len(many) // 2
    ways: dict[str, Make] = {"half": lambda steps: Partly(half), "one": lambda steps: Partly(1)}
    ways |= {"ddim": lambda steps: DDIM(), "multistep": lambda steps: Multistep(3)}
    found = certify(TWO, PATHS["vp"](), ways, many, steps=(40, 80, 160))
    assert {track.name: track.meets for track in found.tracks} == {
        "half": False,
        "one": True,
        "ddim": True,
        "multistep": True,
    }


def test_a_sampler_that_fails_on_its_way_or_is_alone_certifies_nothing() -> None:
    class Failing(DDIM):
        def step(self, *given: Any, **more: Any) -> Step:
            raise ValueError("it does not converge")

    ways: dict[str, Make] = {"ddim": lambda steps: DDIM(), "multistep": lambda steps: Multistep(3)}
    assert certify(TWO, PATHS["vp"](), ways, NOISE, steps=(40, 80, 160)).meet
    found = certify(TWO, PATHS["vp"](), ways | {"failing": lambda steps: Failing()}, NOISE, steps=(40, 80, 160))
    assert not found.meet
    assert found.failed == {"failing": "it does not converge"}
    assert "failing  FAILED: it does not converge" in "\n".join(found.lines())
    assert not certify(TWO, PATHS["vp"](), {"ddim": ways["ddim"]}, NOISE, steps=(40, 80, 160)).meet


def test_a_sampler_that_arrives_nowhere_does_not_meet_even_itself() -> None:
    class Restless(DDIM):
        def __init__(self, count: int) -> None:
            super().__init__()
            self.count = count

        def step(self, *given: Any, **more: Any) -> Step:
            step = super().step(*given, **more)
            return Step(step.x * (1 + 1 / self.count), step.mean, step.prediction, step.level, step.evaluations)

    (track,) = certify(TWO, PATHS["vp"](), {"restless": lambda n: Restless(n % 7 + 1)}, NOISE, steps=(40, 80)).tracks
    assert not track.meets


def test_a_sampler_of_a_lower_order_than_it_says_is_seen() -> None:
    class Boasting(DDIM):
        order = 2

    found = certify(TWO, PATHS["vp"](), {"boasting": lambda steps: Boasting()}, NOISE, steps=(20, 40, 80, 160))
    (track,) = found.tracks
    assert track.declared == 2
    assert track.measured == pytest.approx(1.0, abs=0.2)


def test_the_reverse_drift_without_its_noise_is_not_the_flow() -> None:
    """Forgetting the ½ of the probability flow, the classic mistake."""
    process = PATHS["vp"]()

    class Half(Sampler):
        order, scale_free, stochastic = 1, False, False

        def step(self, model: Any, x: torch.Tensor, t: Any, s: Any, *, noise: Any, memory: Any = None) -> Step:
            p = model(x, t)
            moved = x + over(s.t - t.t, x) * reverse_drift(dynamics(process), p.score, x, t.t)
            return Step(moved, moved, p, s, evaluations(x, 1))

    ways: dict[str, Make] = {"half": lambda n: Half(), "ddim": lambda n: DDIM(), "multistep": lambda n: Multistep(2)}
    found = certify(TWO, process, ways, NOISE)
    assert [track.meets for track in found.tracks] == [False, True, True]


def test_the_verb(logsnr: Verb, digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SAMPLERS", {name: SAMPLERS[name] for name in ("ddim", "heun", "ancestral")})
    monkeypatch.setattr(room, "MOST_DOUBLINGS", 0)
    words = ("sample", digits_run, "--certify", "--steps", "2", "--n", "2", "--out", tmp_path, "--json")
    status, out, err = logsnr(*words)
    assert status == 0, err
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    certificate = manifest["certificate"]
    assert certificate["meet"] is True
    assert certificate["samplers"].keys() == {"ddim", "heun"}
    assert certificate["samplers"]["ddim"]["declared"] == 1
    assert json.loads(out) == {**manifest, "status": 0}
    assert "meet at the same x0" in err
    assert (tmp_path / "grid.png").is_file()
    monkeypatch.setitem(SAMPLERS, "wrong", lambda: Scaled(0.9))
    monkeypatch.setattr(room, "SAMPLERS", {name: SAMPLERS[name] for name in ("ddim", "multistep", "wrong")})
    assert logsnr(*words)[0] == 1
    assert json.loads((tmp_path / "manifest.json").read_text())["certificate"]["meet"] is False


def test_what_certify_refuses(logsnr: Verb, digits_run: Path) -> None:
    one_line(logsnr("sample", digits_run, "--certify", "--sampler", "ddim"), "--certify", "--steps")
    one_line(logsnr("sample", digits_run, "--certify", "--n", "1000"), "1000", "64")
