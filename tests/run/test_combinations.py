"""Wrong combinations: refused before anything is built or written, in one line that says what to use instead."""

from __future__ import annotations

import pytest

from logsnr.config import assignment, resolve
from logsnr.data import Dataset, load
from logsnr.families import FAMILIES
from logsnr.run.session import resolved

STRAIGHT = ("schedule=straight", "scale=straight")
WRONG: list[tuple[str, tuple[str, ...], str]] = [
    # what the target, the label and the inputs can say at the ends of the path
    ("ddpm", (*STRAIGHT, "label=time"), "target 'eps' says nothing of x0 at pure noise .* allowed: x0, v"),
    ("ddpm", (*STRAIGHT, "target=x0", "label=gamma"), "label 'gamma' is infinite at γ = inf; allowed: time"),
    ("vp-sde", ("label=index",), "label 'index' needs a table"),
    ("flow", ("scale=ve",), "σ = inf; allowed: what float32 holds"),
    ("ve-sde", ("schedule.name=linear", "schedule.gamma_max=2000"), "σ = inf; allowed: what float32 holds"),
    ("vp-sde", ("schedule.t_min=0",), "t_min = 0.*; allowed: 0 < t_min < 1"),
    # the reverse variance
    ("ddpm", ("variance=learned_range",), "learned and loss 'matching' does not teach it; allowed: the loss hybrid"),
    ("iddpm", ("variance=small",), "loss 'hybrid' with variance 'small'.* allowed: variance learned_range"),
    ("ddpm", ("sample.sampler={name: ancestral, variance: learned_range}",), "needs a model with a spread channel"),
    (
        "ddpm",
        ("sample.sampler={name: predictor_corrector, predictor: {name: ancestral, variance: learned_range}}",),
        "needs a model with a spread channel",
    ),
    (
        "iddpm",
        ("network.output=energy",),
        "answers with the 2 channels of x, and 4 are wanted",
    ),
    # losses, weights, laws of t
    ("vdm", ("objective.loss=matching",), "says nothing to a learned schedule; allowed: the loss vdm"),
    ("vdm", ("objective.loss=sliced",), "says nothing to a learned schedule; allowed: the loss vdm"),
    ("vdm", ("scale=ve",), "scale 've': its prior moves with γ.1.; allowed: scale vp"),
    ("vdm", ("objective.times=log_normal",), "would not be a bound; allowed: times uniform, log_snr"),
    ("ddpm", ("objective.loss=vdm",), "on a table of 1000 levels; allowed: continuous time"),
    ("ddpm", ("objective.loss=vlb", "objective.weight=v"), "which has its own; allowed: weight simple"),
    ("edm", ("objective.times={name: log_normal, mean: 100}",), "draws one level of this schedule"),
    ("flow", ("objective.times=log_snr",), "times 'log_snr' between .* and inf; allowed: finite ends"),
    ("vp-sde", ("objective.weight={name: min_snr, most: 0}",), "most = 0.* allowed: above 0"),
    ("edm", ("objective.weight={name: edm, sigma_data: 0}",), "sigma_data = 0.* allowed: above 0"),
    # samplers and grids
    ("ddpm", ("sample.sampler={name: ddim, eta: 1.5}",), "eta = 1.5; allowed: 0 .deterministic. to 1"),
    ("flow", ("sample.sampler=euler_maruyama",), "pure noise"),
    ("flow", ("sample.sampler=dpm_adaptive",), "at pure noise .*; allowed: the sampler adaptive"),
    ("flow", ("sample.sampler={name: predictor_corrector, predictor: dpm_adaptive}",), "pure noise"),
    ("flow", ("sample.spacing=log_snr",), "spacing 'log_snr' between .* allowed: finite ends"),
    ("ncsn", ("sample.steps=50",), "50 steps to the clean level; allowed: 1 to 10"),
    ("ddpm", ("bound={name: chain, steps: 0}",), "0 steps"),
    # words and numbers of the wrong kind
    ("edm", ("inputs={name: unit_variance, sigma_data: abc}",), "sigma_data = 'abc' of inputs .* allowed: float"),
    ("ncsn", ("objective.loss={name: sliced, count: 1.5}",), "count = 1.5 of loss 'sliced'; allowed: int"),
    ("ddpm", ("objective.times={name: uniform, stratified: abc}",), "stratified = 'abc' .* allowed: bool"),
    ("ddpm", ("objective.weight={name: table, values: abc}",), "allowed: a list of finite numbers"),
    ("vdm", ("schedule.levels=1",), "levels = 1 of a learned schedule; allowed: at least 2"),
    ("ddpm", ("network={name: mlp-tiny, width: abc}",), "network"),
    ("ddpm", ("train.decay=foo",), "unknown learning-rate decay 'foo'; known: constant, cosine, linear"),
    ("ddpm", ("train.betas=[2, 3]",), "betas = .*; allowed: two numbers, 0 to below 1"),
    ("ddpm", ("train.clip_norm=0",), "clip_norm = 0.0; allowed: above 0"),
]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load("toy:two")


@pytest.mark.parametrize(("recipe", "settings", "message"), WRONG, ids=lambda value: str(value)[:60])
def test_a_wrong_combination_is_refused_in_one_line(
    recipe: str, settings: tuple[str, ...], message: str, data: Dataset
) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        resolved(resolve(recipe, [assignment(text) for text in settings]), data)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("recipe", FAMILIES)
def test_every_recipe_is_right(recipe: str, data: Dataset) -> None:
    resolved(resolve(recipe, []), data)


def test_a_name_and_its_options_come_in_any_order() -> None:
    for order in ((0, 1), (1, 0)):
        texts = ("schedule.sigma_max=7", "schedule=geometric")
        config = resolve("vdm", [assignment(texts[i]) for i in order])
        assert (config.schedule.name, config.schedule.options) == ("geometric", {"sigma_max": 7.0}), order
    assert resolve("vdm", [assignment("schedule=geometric")]).schedule.options == {}, "nothing of another name's"
