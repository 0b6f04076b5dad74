"""The flags of every verb: words and types, no logic. Nothing heavy is imported here.

A flag that sets a leaf of the configuration names it (`dest` is the dotted leaf).
"""

from __future__ import annotations

from argparse import ArgumentParser as Parser
from collections.abc import Callable

from logsnr.families import FAMILIES
from logsnr.verbs.kinds import index_range, names, size, steps


def _common(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output, nothing else")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def _machine(parser: Parser) -> None:
    group = parser.add_argument_group("machine")
    group.add_argument("--device", dest="machine.device", metavar="D", help="auto, cpu, cuda, cuda:1, mps")
    group.add_argument("--precision", dest="machine.precision", metavar="P", help="of the network: auto, fp32, bf16")
    group.add_argument("--compile", dest="machine.compile", metavar="C", help="kernels for it: auto, on, off")
    group.add_argument("--threads", dest="machine.threads", type=int, metavar="N", help="CPU threads")


def _configured(parser: Parser) -> None:
    parser.add_argument("--config", metavar="FILE", help="YAML overlaid on the recipe (a run.yaml will do)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments",
                        help="any leaf of the configuration, e.g. train.lr=1e-3; may be repeated")  # fmt: skip


def _train(parser: Parser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help=", ".join(FAMILIES))
    data = parser.add_argument_group("data")
    known = "digits (default), toy:NAME, a folder of images, .npy, .npz, IDX, CIFAR-10, wds:SHARDS or hf:DATA"
    data.add_argument("--data", dest="data.source", metavar="DATA", help=known)
    data.add_argument("--size", dest="data.size", type=size, metavar="N|HxW", help="resize and centre-crop images")
    data.add_argument("--channels", dest="data.channels", type=int, metavar="C", help="convert images to 1, 3 or 4")
    condition = (
        "what the model is told: classes, vector, image (arrays vectors, conditions of an .npz); may be repeated"
    )
    data.add_argument("--condition", dest="condition.use", type=names, action="extend", metavar="NAME", help=condition)
    data.add_argument("--drop", dest="condition.drop", type=float, metavar="P", help="how often it is not told (0.1)")
    data.add_argument("--flip", dest="data.flip", action="store_const", const=True, help="mirror half of the draws")
    parser.add_argument("--out", required=True, metavar="RUN", help="run directory; the same command goes on in it")
    train = parser.add_argument_group("training")
    for flag, kind, text in (
        ("steps", int, "stop after this many optimiser steps"),
        ("minutes", float, "stop after this many minutes, at a learning rate that falls to 0 until then"),
        ("images", int, "stop after this many images"),
        ("batch-size", int, "images an optimiser step, over all devices"),
        ("micro-batch", int, "most images at once; the rest is accumulated"),
        ("lr", float, "learning rate"),
        ("checkpoint-every", int, "steps between checkpoints"),
        ("keep", int, "checkpoints kept"),
        ("preview-every", int, "steps between previews"),
        ("log-every", int, "steps between log records"),
    ):
        train.add_argument(f"--{flag}", dest=f"train.{flag.replace('-', '_')}", type=kind, metavar="N", help=text)
    train.add_argument(
        "--network", dest="network", metavar="NAME", help="size of network, e.g. tiny, small, ddpm-cifar10"
    )
    train.add_argument("--engine", dest="machine.engine", metavar="E", help="of several ranks: auto (ddp), ddp, fsdp")
    train.add_argument("--resume", default="auto", metavar="auto|none|PATH", help="auto (default) goes on in RUN")
    train.add_argument("--seed", dest="seed", type=int, metavar="S", help="of weights, data order, noise")
    train.add_argument(
        "--dry-run", action="store_true", help="print configuration, size, memory and time, train nothing"
    )
    _configured(parser)
    _machine(parser)
    _common(parser)


def _sampling(parser: Parser) -> None:
    parser.add_argument("--sampler", metavar="NAME", help="auto, ddim, ancestral, heun, multistep, … as by itself")
    parser.add_argument("--steps", type=steps, metavar="N|N,N|ddimN", help="steps of the grid; N,N in equal sections")
    parser.add_argument("--eta", type=float, metavar="E", help="ddim: 0 deterministic to 1 ancestral")
    parser.add_argument("--spacing", metavar="NAME", help="of the grid: uniform, quadratic, log_snr, rho, auto")
    parser.add_argument("--plan", metavar="FILE", help="the steps of a plan that plan-steps wrote")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments",
                        help="a leaf of the run's sample, e.g. sample.sampler.s_churn=10; may be repeated")  # fmt: skip
    parser.add_argument("--end", metavar="NAME", help="of the grid: clean (a last denoising step) or lowest (none)")
    classes = "class by name or index, or none; several are gone through in turn; may be repeated"
    parser.add_argument("--class", dest="classes", type=names, action="extend", metavar="NAME", help=classes)
    parser.add_argument("--condition-from", metavar="FILE", help=".npz of vectors, conditions: row i for example i")
    parser.add_argument("--weights", default="ema", metavar="ema|raw", help="which weights")
    parser.add_argument("--batch-size", type=int, metavar="N", help="examples held at once; never changes a result")


def _sample(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="run directory or checkpoint")
    parser.add_argument("--out", metavar="DIR", help="where grid.png, samples.npz and manifest.json go (RUN/samples)")
    parser.add_argument("--n", "--count", type=int, metavar="N", help="how many (64)")
    parser.add_argument("--index", type=index_range, metavar="I:J", help="examples I to J − 1 instead of 0 to N − 1")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="example i is a function of (seed, i)")
    _sampling(parser)
    parser.add_argument("--certify", action="store_true",
                        help="see that all deterministic samplers meet at one x0, with measured orders")  # fmt: skip
    parser.add_argument("--trajectory", action="store_true", help="write trajectory.png and .gif of x_t and x̂0")
    parser.add_argument("--float", action="store_true", help="keep the float32 examples in model units too, as x")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done")
    _machine(parser)
    _common(parser)


def _evaluate(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", nargs="?", help="run directory or checkpoint; none with --samples")
    data = parser.add_argument_group("data")
    data.add_argument("--data", metavar="DATA", help="real examples (the run's), or moments from --stats-out")
    data.add_argument("--split", default="train", metavar="NAME", help="the reference (train, as the field has it)")
    data.add_argument("--size", type=size, metavar="N|HxW", help="resize and centre-crop images, as in training")
    data.add_argument("--channels", type=int, metavar="C", help="convert images to 1, 3 or 4 channels")
    data.add_argument("--samples", metavar="FILE|DIR", help="given samples, of any kind of DATA, instead of RUN's")
    what = "fd, kd, prdc, sliced_wasserstein, spectral, channel_moments, memorisation, c2st (all that can be had)"
    parser.add_argument("--metrics", type=names, action="extend", metavar="NAME,…", help=what)
    parser.add_argument("--features", default="pixels", metavar="NAME", help="pixels, classifier, inception, script")
    parser.add_argument("--feature-file", metavar="PT", help="TorchScript module of script, or of inception")
    parser.add_argument("--feature-size", type=size, metavar="N|HxW", help="resize images for it (bicubic)")
    parser.add_argument("--n", "--count", type=int, default=2048, metavar="N", help="how many samples to make (2048)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of samples, subsamples and resampling")
    parser.add_argument("--bootstrap", type=int, default=200, metavar="B", help="resampled sets an interval; 0: none")
    parser.add_argument("--force", action="store_true", help="figures of fewer examples than they need, too")
    parser.add_argument("--stats-out", metavar="FILE", help="write moments of the reference (.safetensors), and stop")
    parser.add_argument(
        "--out", metavar="DIR", help="where metrics.json and samples go (RUN/evaluation; given samples: nowhere)"
    )
    _sampling(parser)
    parser.set_defaults(index=None, trajectory=False, float=False, certify=False)
    _machine(parser)
    _common(parser)


def _edit(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="run directory or checkpoint")
    parser.add_argument("what", choices=("encode", "reconstruct", "interpolate"),
                        help="data to latents; there and back, with the error; from example to example")  # fmt: skip
    parser.add_argument("--data", metavar="DATA", help="whose examples (of the run; interpolate: random latents)")
    parser.add_argument("--split", metavar="NAME", help="of the data: val or test where there is one, else train")
    parser.add_argument("--index", type=index_range, metavar="I:J", default=(0, 8), help="examples I to J − 1 (0:8)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of random latents")
    parser.add_argument("--steps", type=steps, metavar="N|N,N|ddimN", help="steps of the grid (100, or all of fewer)")
    parser.add_argument("--spacing", metavar="NAME", help="of the grid: log_snr (default), uniform, quadratic")
    parser.add_argument("--refinements", type=int, metavar="N", help="fixed-point rounds a step up (5); 0 for none")
    parser.add_argument("--frames", type=int, default=11, metavar="N", help="of an interpolation, ends included (11)")
    parser.add_argument("--weights", default="ema", metavar="ema|raw", help="which weights")
    parser.add_argument("--out", metavar="DIR", help="where latents.npz, grid.png and manifest.json go (RUN/WHAT)")
    _machine(parser)
    _common(parser)


def _audited(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="run directory or checkpoint")
    parser.add_argument("--data", metavar="DATA", help="whose examples (the run's own)")
    parser.add_argument("--split", metavar="NAME", help="of the data: test or val where there is one, else train")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the noise; example i is of (seed, i)")
    parser.add_argument("--weights", default="ema", metavar="ema|raw", help="which weights")


def _audit(parser: Parser) -> None:
    _audited(parser)
    parser.add_argument("--estimators", type=names, default=["vlb", "vlb_inf", "ode"], metavar="NAME,NAME",
                        help="vlb, vlb_inf, iwae, ode (vlb,vlb_inf,ode)")  # fmt: skip
    parser.add_argument("--steps", type=int, metavar="T", help="of vlb and iwae (the model's own T)")
    parser.add_argument("--repeats", type=int, metavar="R", help="independent ones (4; 1 of iwae and ode)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME.OPTION=VALUE", dest="assignments",
                        help="of an estimator: ode.probes=0 (exact), ode.dequantisation=uniform, ode.draws=8, "
                        "iwae.draws=8, vlb_inf.times=linear; may be repeated")  # fmt: skip
    parser.add_argument("--index", type=index_range, metavar="I:J", help="examples I to J − 1 alone")
    parser.add_argument("--ood", metavar="DATA", help="other data: how well the likelihood tells it apart, calibrated")
    parser.add_argument("--out", metavar="DIR", help="where audit.json, audit.npz and pictures go (RUN/audit)")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done")
    _machine(parser)
    _common(parser)


def _fit_schedule(parser: Parser) -> None:
    _audited(parser)
    parser.add_argument("--draws", type=int, default=4096, metavar="N", help="evaluations of the network (4096)")
    parser.add_argument(
        "--out", metavar="FILE", help="where the schedule goes (RUN/schedule.json), a picture beside it"
    )
    _machine(parser)
    _common(parser)


def _plan_steps(parser: Parser) -> None:
    _audited(parser)
    parser.add_argument("--budget", type=int, default=10, metavar="K", help="steps (10)")
    parser.add_argument("--candidates", type=int, default=96, metavar="M", help="levels to choose from (96)")
    parser.add_argument("--examples", type=int, default=256, metavar="N", help="that the terms are measured on (256)")
    parser.add_argument("--out", metavar="FILE", help="where the plan goes (RUN/plan-K.json)")
    _machine(parser)
    _common(parser)


def _explain(parser: Parser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help=", ".join(FAMILIES))
    parser.add_argument("--out", metavar="PNG", help="draw γ, SNR, α, σ, β, the loss weight and the sampler's steps")
    parser.add_argument("--data", dest="data.source", metavar="DATA", help="NCSNv2's choices for it: σ, levels, step")
    _configured(parser)
    _common(parser)


def _inspect(parser: Parser) -> None:
    parser.add_argument("path", metavar="PATH", help="a data set, run, checkpoint, safetensors or samples file")
    parser.add_argument("--size", type=size, metavar="N|HxW", help="read images at this size")
    parser.add_argument("--channels", type=int, metavar="C", help="read images with 1, 3 or 4 channels")
    parser.add_argument("--out", metavar="PNG", help="draw the first examples of a data set")
    _common(parser)


def _bench(parser: Parser) -> None:
    known = "training, trainer, ranks, sampling, likelihood, start, loading, checkpoint-save, checkpoint-load"
    parser.add_argument("sections", metavar="SECTION", nargs="*", help=f"{known} (all)")
    parser.add_argument("--vehicle", default="small", metavar="NAME", help="the network: toy, small, cifar10 (small)")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="pictures a step (16)")
    parser.add_argument("--run", metavar="RUN", help="weights of a run whose network is the vehicle's (random ones)")
    parser.add_argument("--turns", type=int, default=10, metavar="N", help="counted turns of each contender (10)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the weights and the batch")
    parser.add_argument("--out", metavar="DIR", help="where SECTION.json goes (nowhere)")
    _common(parser)


def _gallery(parser: Parser) -> None:
    parser.add_argument("names", metavar="NAME", nargs="*", help="G1 to G25; --list says what they are")
    parser.add_argument("--list", action="store_true", help="the demonstrations, one a line")
    parser.add_argument("--all", action="store_true", help="every one: half an hour on two cores")
    parser.add_argument("--analytic", action="store_true", help="those about exact denoisers, for the most part")
    parser.add_argument("--quick", action="store_true", help="at reduced size; alone, the analytic ones")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="other data, other noise, other weights (0)")
    parser.add_argument("--out", default="runs/gallery", metavar="DIR",
                        help="where pictures, findings, models and index.html go (runs/gallery)")  # fmt: skip
    _common(parser)


def _doctor(parser: Parser) -> None:
    _machine(parser)
    _common(parser)


VERBS: dict[str, tuple[str, Callable[[Parser], None]]] = {
    "train": ("train a recipe on data, or go on training", _train),
    "sample": ("make examples with a trained run", _sample),
    "evaluate": ("measure samples against real examples", _evaluate),
    "edit": ("encode data to latents, reconstruct it, or interpolate between examples", _edit),
    "audit": ("the likelihood of every example of a split, every term with its standard error", _audit),
    "fit-schedule": ("the schedule of a trained run whose bound has the least variance", _fit_schedule),
    "plan-steps": ("the K steps that lose least of the bound", _plan_steps),
    "explain": ("draw the schedule, the loss weights and the steps of a recipe", _explain),
    "inspect": ("say what a file or directory is; runs nothing in it", _inspect),
    "bench": ("speed beside peers that are installed, on the same weights, in turn", _bench),
    "gallery": ("the papers' claims, shown: a picture, a figure and a verdict each", _gallery),
    "doctor": ("device, precision, versions, and a check against closed forms", _doctor),
}
