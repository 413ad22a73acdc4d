import dataclasses
import threading

import numpy as np
import pytest
import torch
from engine_same import distance, finish, same_bits
from engine_toys import program

from visir.core.errors import ImageError, TrainingError
from visir.engine.fit import EpochEnded, Stepped, fit
from visir.engine.runtime import Runtime
from visir.engine.step import EngineStep
from visir.methods.base import Optim, step_decay

TOYS = ("engine_toys.plain", "engine_toys.gan")


@pytest.mark.parametrize("name", TOYS)
def test_events_count_steps_epochs_and_images(small, name):
    _, events = program.train(small, name, epochs=2, log_every=3)
    events = list(events)
    stepped = [event for event in events if isinstance(event, Stepped)]
    assert [event.step for event in stepped] == [3, 6, 7, 9, 12, 14]  # seven steps an epoch; an epoch's end is logged
    assert [(e.epoch, e.step) for e in events if isinstance(e, EpochEnded)] == [(1, 7), (2, 14)]
    per_step = 8 if name == "engine_toys.plain" else 16
    assert [event.images for event in stepped] == [per_step * n for n in (3, 3, 1, 2, 3, 2)]
    assert all(event.seconds >= event.waited > 0 for event in stepped)


def test_losses_are_means_over_the_window(small):
    fine, _ = finish(program.train(small, "engine_toys.plain", epochs=1)[1])
    coarse, _ = finish(program.train(small, "engine_toys.plain", epochs=1, log_every=100)[1])
    assert len(coarse) == 1
    for term in ("identity", "resemblance"):
        assert coarse[0].losses[term] == pytest.approx(np.mean([event.losses[term] for event in fine]))


def test_training_learns(small):
    stepped, _ = finish(program.train(small, "engine_toys.plain", epochs=8, rate=0.5)[1])
    named = [event.losses["identity"] for event in stepped]
    assert np.mean(named[-7:]) < 0.6 * np.mean(named[:7])


@pytest.mark.parametrize("name", TOYS)
def test_workers_and_logging_change_nothing(small, name):
    _, alone = finish(program.train(small, name, epochs=2)[1])
    for workers, every in ((1, 3), (2, 50)):
        same_bits(alone, finish(program.train(small, name, epochs=2, workers=workers, log_every=every)[1])[1])


def test_seeds_differ(small):
    one, other = (finish(program.train(small, "engine_toys.plain", epochs=1, seed=seed)[1])[1] for seed in (0, 1))
    assert distance(one, other) > 0.01


def test_what_the_reader_does_between_events_changes_nothing(small):
    _, alone = finish(program.train(small, "engine_toys.plain", epochs=1, dropout=0.3)[1])
    method, events = program.train(small, "engine_toys.plain", epochs=1, dropout=0.3)
    for event in events:
        method.eval()
        torch.rand(7)
        last = event.state
    same_bits(alone, last())


def test_a_state_is_a_copy(small):
    _, events = program.train(small, "engine_toys.plain", epochs=1)
    first = next(events).state()
    kept = {name: tensor.clone() for name, tensor in first.tensors.items()}
    list(events)
    assert all(torch.equal(kept[name], first.tensors[name]) for name in kept)


def test_learning_rates_follow_the_fractional_epoch(small):
    stepped, _ = finish(program.train(small, "engine_toys.plain", epochs=2)[1])
    assert [event.rates["main/0"] for event in stepped] == pytest.approx([0.005] * 7 + [0.0005] * 7)
    assert [event.rates["main/1"] for event in stepped] == pytest.approx([0.05] * 7 + [0.005] * 7)


def test_one_step_is_the_plain_one(small):
    """Against PyTorch written out by hand: backward, clip, step."""
    runtime = Runtime()
    method, batches = program.prepared(small, "engine_toys.plain", runtime)
    twin, _ = program.prepared(small, "engine_toys.plain", runtime)
    next(fit(method, batches, runtime, epochs=1, seed=3, log_every=1))
    optimizer = twin.optimizer().optimizer
    step = EngineStep({}, runtime, seed=3, steps_per_epoch=7)
    sum(twin.losses(batches["main"].batch(0), step).values()).backward()
    torch.nn.utils.clip_grad_norm_(twin.parameters(), 2.0)
    optimizer.step()
    for (name, ours), theirs in zip(method.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7, msg=name)


class TestMinimize:
    @pytest.fixture
    def parts(self):
        torch.manual_seed(0)
        nets = {name: torch.nn.Linear(3, 3) for name in ("a", "b", "c")}
        optims = {
            name: Optim(torch.optim.SGD(net.parameters(), 0.1), step_decay(1.0, factor=0.5))
            for name, net in nets.items()
        }
        step = EngineStep(optims, Runtime(), seed=0, steps_per_epoch=10)
        step.begin(0)
        return nets, optims, step

    def test_moves_the_named_and_leaves_the_others(self, parts):
        nets, _, step = parts
        before = {name: [p.clone() for p in net.parameters()] for name, net in nets.items()}
        nets["c"].weight.grad = torch.full((3, 3), 7.0)
        step.minimize(nets["c"](nets["b"](nets["a"](torch.ones(2, 3)))).square().sum(), "a", "b")
        moved = {n: not torch.equal(net.weight, before[n][0]) for n, net in nets.items()}
        assert moved == {"a": True, "b": True, "c": False}
        assert (nets["c"].weight.grad == 7.0).all()
        assert nets["c"].bias.grad is None

    def test_gradients_start_from_nothing(self, parts):
        nets, _, step = parts
        nets["a"].weight.grad = torch.full((3, 3), 1e6)
        before = nets["a"].weight.clone()
        step.minimize(nets["a"].weight.sum(), "a")
        assert torch.allclose(nets["a"].weight, before - 0.1)

    def test_parts_of_a_graph_that_others_need_stay(self, parts):
        nets, _, step = parts
        hidden = nets["a"](torch.ones(2, 3))
        step.minimize(nets["b"](hidden).sum(), "b")
        step.minimize(nets["b"](hidden).sum(), "a")

    def test_schedule_scales_the_base_rate(self, parts):
        _, optims, step = parts
        for index, rate in ((0, 0.1), (9, 0.1), (10, 0.05), (25, 0.05)):
            step.begin(index)
            assert optims["a"].optimizer.param_groups[0]["lr"] == pytest.approx(rate)
            assert step.epoch == pytest.approx(index / 10)

    def test_clips_each_optimizer_apart(self, parts):
        nets, optims, step = parts
        optims["a"].clip_norm = 1.0
        before = {name: nets[name].weight.clone() for name in ("a", "b")}
        step.minimize(100 * (nets["a"].weight.sum() + nets["b"].weight.sum()), "a", "b")
        assert torch.allclose(before["a"] - nets["a"].weight, torch.tensor(0.1 / 3), atol=1e-6)
        assert torch.allclose(before["b"] - nets["b"].weight, torch.tensor(10.0), atol=1e-5)

    def test_low_precision_sees_the_updated_weights(self, parts):
        nets, _, step = parts
        ones = torch.ones(2, 3)
        with torch.autocast("cpu", torch.bfloat16):
            nets["a"](ones)  # autocast now remembers the weights in bfloat16
            step.minimize(1e3 * nets["a"](ones).sum(), "a")
            after = nets["a"](ones)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(after, nets["a"](ones))

    @pytest.mark.parametrize("loss", [torch.ones(()), torch.ones(2, requires_grad=True)])
    def test_a_loss_without_a_gradient_or_no_scalar_is_told(self, parts, loss):
        with pytest.raises(TrainingError, match="expected a scalar loss with a gradient"):
            parts[2].minimize(loss, "a")

    def test_unknown_and_missing_names_are_told(self, parts):
        nets, _, step = parts
        with pytest.raises(TrainingError, match="no optimizer is named 'aa'. Did you mean 'a'"):
            step.minimize(nets["a"].weight.sum(), "aa")
        with pytest.raises(TrainingError, match="names of optimizers"):
            step.minimize(nets["a"].weight.sum())

    def test_the_methods_own_random_numbers_depend_on_the_step(self, parts):
        step = parts[2]
        drawn = []
        for index in (4, 5, 4):
            step.begin(index)
            drawn.append((torch.rand(2, generator=step.generator).tolist(), torch.rand(2).tolist()))
        assert drawn[0] == drawn[2]
        assert drawn[0] != drawn[1]


@pytest.mark.parametrize("every", [1, 50])
def test_the_first_loss_that_is_not_finite_stops_and_is_named(small, every):
    method, events = program.train(small, "engine_toys.plain", explode_at=4, log_every=every)
    with pytest.raises(TrainingError, match=r"step 4: the loss term 'identity' is inf \(other terms: resemblance 0\."):
        list(events)
    assert all(p.isfinite().all() for p in method.parameters())  # the state before is kept


def test_a_term_that_is_not_minimized_is_watched_too(small, monkeypatch):
    method, batches = program.prepared(small, "engine_toys.plain", Runtime())
    plain = method.train_step

    def with_another(given, step):
        return {**plain(given, step), "extra": torch.tensor(float("nan") if step.index == 5 else 0.0)}

    monkeypatch.setattr(method, "train_step", with_another)
    with pytest.raises(TrainingError, match="step 5: the loss term 'extra' is nan"):
        list(fit(method, batches, Runtime(), epochs=1))


def test_a_damaged_image_ends_the_training_and_its_threads(small, tmp_path):
    for path in small.root.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "7_0_2.png").write_bytes(b"")
    _, events = program.train(program.read(tmp_path), "engine_toys.plain", workers=2)
    with pytest.raises(ImageError, match=r"7_0_2\.png"):
        list(events)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("visir-loading")]


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_starts_near_fp32_and_keeps_full_weights(small, name, precision):
    plain, _ = finish(program.train(small, name, epochs=1)[1])
    low, state = finish(program.train(small, name, epochs=1, runtime=Runtime(precision=precision))[1])
    for term, value in plain[0].losses.items():
        assert low[0].losses[term] == pytest.approx(value, rel=0.03, abs=0.02)
    for term in plain[-1].losses:  # fp16 leaves out the first updates, until its loss scale fits
        assert low[-1].losses[term] == pytest.approx(plain[-1].losses[term], rel=0.5)
    untrained, _ = program.prepared(small, name, Runtime())
    for key, tensor in state.model().items():
        assert tensor.dtype in (torch.float32, torch.int64)
        assert not key.endswith("weight") or not torch.equal(tensor, untrained.state_dict()[key])


@pytest.mark.parametrize("name", TOYS)
def test_channels_last_computes_the_same(small, name):
    plain, _ = finish(program.train(small, name, epochs=1)[1])
    method, events = program.train(small, name, epochs=1, runtime=Runtime(channels_last=True))
    other, _ = finish(events)
    assert method.encoder.body[3].weight.is_contiguous(memory_format=torch.channels_last)
    for one, two in zip(plain, other, strict=True):
        assert two.losses == pytest.approx(one.losses, rel=1e-3)


def test_the_encoder_is_compiled_when_asked(small, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))
    method, events = program.train(small, "engine_toys.plain", runtime=Runtime(compile=True))
    next(events)
    assert compiled == [method.encoder]


def test_missing_batches_are_told(small):
    method, batches = program.prepared(small, "engine_toys.gan", Runtime())
    with pytest.raises(TrainingError, match=r"asks for batches named \['translation'\]"):
        fit(method, {"main": batches["main"]}, Runtime(), epochs=1)


def test_runtime_is_plain_data():
    assert Runtime().main
    assert not dataclasses.replace(Runtime(), rank=1, world=2).main
