"""The loop: equal to a bare one, blind to the split, unmoved by steps that are not finite."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from torch import nn
from toy_task import SIZE, assert_bits, batches, copied, law, toy, trainer

from logsnr.draws import Draws
from logsnr.train.ema import MovingAverages
from logsnr.train.engine import Engine
from logsnr.train.optim import adamw
from logsnr.train.trainer import NonFiniteLoss, Trainer, _seed_dropout


def test_equals_a_loop_written_by_hand_bit_for_bit() -> None:
    bare, ours = toy(), toy()
    run = trainer(ours, clip_norm=0.5)
    optimizer = adamw(bare, lr=1.0, weight_decay=0.01)
    average = [p.detach().clone() for p in bare.model.parameters()]
    for batch, report in zip(batches(0, 8), run.steps(batches(0, 8)), strict=True):
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = law(batch.step, 0.0)
        loss = bare(batch.x, Draws(11, batch.step, batch.index, SIZE), **batch.condition)
        optimizer.zero_grad()
        (loss.total.sum() / SIZE).backward()
        # the norm of norms is a sum, so its last bit knows the order: the optimiser's
        norm = nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 0.5)
        optimizer.step()
        bare.observe(loss.times, loss.unweighted.detach().double())
        seen = SIZE * (batch.step + 1)
        d = 0.5 ** (SIZE / min(300, 0.05 * seen))
        for a, p in zip(average, bare.model.parameters(), strict=True):
            a.mul_(d).add_(p.detach(), alpha=1 - d)
        assert (report.step, report.images, report.lr) == (batch.step + 1, seen, law(batch.step, 0.0))
        assert report.loss == pytest.approx(loss.total.mean().item(), rel=1e-6)
        assert report.grad_norm == norm.item()
        for p, q in zip(bare.parameters(), ours.parameters(), strict=True):
            assert torch.equal(p, q)  # the generator has yielded after the optimiser moved
    ema = run.state().tensors["ema"]
    for (name, _), a in zip(bare.model.named_parameters(), average, strict=True):
        assert torch.allclose(ema[name], a, rtol=1e-5, atol=1e-7)


def test_no_two_micro_batches_steps_or_seeds_share_a_mask() -> None:
    states = []
    for name in itertools.product((0, 1), repeat=3):
        _seed_dropout(torch.device("cpu"), name)
        states.append(tuple(torch.rand(3).tolist()))
    assert len(set(states)) == 8


@pytest.mark.parametrize("micro_batch", [1, 4])
def test_gradient_does_not_know_the_split(micro_batch: int) -> None:
    """Up to the order of float32 sums: kernels of other widths round differently; 1e-6 of the gradient."""
    gradients = []
    for micro in (None, micro_batch):
        task = toy()
        optimizer = torch.optim.SGD(task.parameters(), lr=1.0)
        run = Trainer(
            Engine(task),
            MovingAverages(task.model, [300]),
            optimizer,
            learning_rate=lambda step, spent: 1.0,
            seed=3,
            micro_batch=micro,
            clip_norm=None,
        )
        before = torch.cat([p.detach().flatten() for p in task.parameters()])
        (report,) = run.steps(batches(0, 1))
        after = torch.cat([p.detach().flatten() for p in task.parameters()])
        gradients.append((before - after, report, task.observed[0]))
    (whole, first, seen), (split, second, seen_split) = gradients
    assert (whole - split).norm() < 1e-6 * whole.norm()
    assert whole.norm().item() == pytest.approx(first.grad_norm, rel=1e-5)
    assert second.loss == pytest.approx(first.loss, rel=1e-6)
    assert torch.equal(seen[0], seen_split[0])  # the same times, in global order
    assert torch.allclose(seen[1], seen_split[1], rtol=1e-5)


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_step_that_is_not_finite_moves_nothing_and_is_counted(kind: str) -> None:
    task = toy(poison=(1,), kind=kind)
    run = trainer(task)
    reports = run.steps(batches(0, 3))
    next(reports)
    before = copied(run)
    bad = next(reports)
    assert_bits(copied(run), before)
    assert (bad.skipped, bad.step, bad.images, run.skipped) == (True, 2, 12, 1)
    record = bad.record()
    assert (record["loss"] is None, record["grad_norm"] is None) == (kind == "loss", kind == "gradient")
    json.dumps(record, allow_nan=False)
    assert len(task.observed) == 1
    good = next(reports)
    assert not good.skipped
    assert run.skipped_in_a_row == 0
    assert not torch.equal(copied(run)["model/0.weight"], before["model/0.weight"])


def test_ten_in_a_row_stop_with_the_examples_and_times_and_keep_what_was_reached() -> None:
    run = trainer(toy(poison=tuple(range(3, 30))))
    reports = run.steps(batches(0, 30))
    before = [copied(run) for _ in range(4) if next(reports)][2]
    for _ in range(8):
        assert next(reports).skipped
    batch = next(batches(12, 13))
    time = Draws(11, 12, batch.index, SIZE).stratified("t")[2].item()
    line = f"step 13, the last of 10 not finite: loss of example {batch.examples[2]} at time {time:.4f}$"
    with pytest.raises(NonFiniteLoss, match=line):
        next(reports)
    assert_bits(copied(run), before)
    assert run.state().values == {"step": 13, "images": 78, "skipped": 10, "skipped_in_a_row": 10}


def test_the_first_bad_gradient_is_named() -> None:
    run = trainer(toy(poison=(0,), kind="gradient"), max_skipped=1)
    with pytest.raises(NonFiniteLoss, match=r"step 1, the last of 1 not finite: gradient of model.3.bias$"):
        list(run.steps(batches(0, 1)))


def test_dropout_is_a_function_of_the_step_not_of_what_was_drawn_before() -> None:
    runs = [trainer(toy(dropout=0.5), micro_batch=2) for _ in range(2)]
    losses = []
    for run, disturb in zip(runs, (False, True), strict=True):
        for report in run.steps(batches(0, 3)):
            if disturb:
                torch.rand(7)
            losses.append(report.loss)
    assert losses[:3] == losses[3:]


def test_training_goes_on_in_training_mode_after_a_preview() -> None:
    run = trainer(toy(dropout=0.5))
    for _ in run.steps(batches(0, 2)):
        assert run.model.training
        with run.averages.swap() as model:
            model.eval()
    assert not run.model.training


def test_loss_by_time_is_the_mean_in_each_eighth() -> None:
    task = toy()
    (report,) = trainer(task).steps(batches(0, 1))
    times, losses = task.observed[0]
    for k, value in enumerate(report.loss_bins):
        inside = losses[(times >= k / 8) & (times < (k + 1) / 8)]
        assert value == (pytest.approx(inside.mean().item(), rel=1e-6) if len(inside) else None)
    assert sum(value is None for value in report.loss_bins) >= 2  # six examples in eight bins
    assert report.parts["matching"] == pytest.approx(report.loss, rel=1e-6)
    assert report.parts["weight"] == pytest.approx(1.0)


def test_misuse_is_one_line() -> None:
    run = trainer(toy())
    with pytest.raises(ValueError, match=r"the trainer is at step 0, the batch is of step 4$"):
        list(run.steps(batches(4, 5)))
    with pytest.raises(ValueError, match="micro_batch must be at least 1, not 0"):
        trainer(toy(), micro_batch=0)
    with pytest.raises(ValueError, match="clip_norm must be positive or None, not 0"):
        trainer(toy(), clip_norm=0.0)
    tensors, values = run.state()
    with pytest.raises(ValueError, match=r"missing ema-3000, images, skipped$"):
        run.load_state({g: t for g, t in tensors.items() if g != "ema-3000"}, {"step": 1, "skipped_in_a_row": 0})
    with pytest.raises(ValueError, match=r"model: missing tensors 0.bias; unexpected tensors none"):
        run.load_state({**tensors, "model": {n: t for n, t in tensors["model"].items() if n != "0.bias"}}, values)
    with pytest.raises(ValueError, match=r"task: history has shape \(5,\), the module needs \(4,\)"):
        run.load_state({**tensors, "task": {"history": torch.zeros(5)}}, values)
