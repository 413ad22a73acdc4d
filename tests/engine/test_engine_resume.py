"""Going on from any point gives the bits of never having stopped, also after SIGKILL in training and in saving."""

import os
import signal
import time

import pytest
from engine_same import finish, same_bits
from engine_toys import program

from visir.core.errors import CheckpointError
from visir.engine import checkpoint
from visir.engine.runtime import Runtime


@pytest.mark.parametrize(
    ("name", "runtime", "options"),
    [
        ("engine_toys.plain", Runtime(), {"dropout": 0.3}),
        ("engine_toys.gan", Runtime(channels_last=True), {}),
        ("engine_toys.gan", Runtime(precision="fp16"), {}),
    ],
)
def test_resuming_from_every_step_gives_the_same_bits(small, tmp_path, name, runtime, options):
    _, events = program.train(small, name, epochs=2, runtime=runtime, **options)
    for event in events:
        last = event.state()
        checkpoint.save(tmp_path, last, keep=99)
    saved = sorted(tmp_path.glob("step-*"))
    assert len(saved) == 14
    for path in saved[2:13:3]:
        state = checkpoint.load(path)
        _, events = program.train(small, name, epochs=2, runtime=runtime, resume=state, log_every=50, **options)
        same_bits(last, finish(events)[1])


def test_more_epochs_can_be_added(small):
    _, short = finish(program.train(small, "engine_toys.plain", epochs=1)[1])
    _, long = finish(program.train(small, "engine_toys.plain", epochs=2)[1])
    same_bits(long, finish(program.train(small, "engine_toys.plain", epochs=2, resume=short)[1])[1])
    assert list(program.train(small, "engine_toys.plain", epochs=1, resume=short)[1]) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 7}, r"config\.width = 6, this training 7"),
        ({"seed": 4}, r"seed = 3, this training 4"),
        ({"stream": {"height": 24}}, r"config\.stream\.height = 16, this training 24"),
    ],
)
def test_another_configuration_or_seed_is_refused(small, changes, words):
    _, state = finish(program.train(small, "engine_toys.plain", epochs=1)[1])
    draw = {"stream": {"draw": {"kind": "pairs", "pairs": 4}, "width": 8, **changes.pop("stream", {"height": 16})}}
    draw["stream"]["augment"] = {"flip": 0.5, "pad": 1, "jitter": 0.2}
    with pytest.raises(CheckpointError, match=words):
        program.train(small, "engine_toys.plain", resume=state, **draw, **changes)


def test_another_method_or_number_of_identities_is_refused(small):
    _, state = finish(program.train(small, "engine_toys.plain", epochs=1)[1])
    with pytest.raises(CheckpointError, match=r"method = 'engine_toys\.plain', this training 'engine_toys\.gan'"):
        program.train(small, "engine_toys.gan", resume=state)
    fewer = small.take(small.identity > 0)
    with pytest.raises(CheckpointError, match="num_identities = 6, this training 5"):
        program.train(fewer, "engine_toys.plain", resume=state)


def test_killed_in_training_and_in_saving_it_ends_with_the_same_bits(small, tmp_path, launch):
    options = {"workers": 1, "dropout": 0.3}
    _, whole = finish(program.train(small, "engine_toys.plain", epochs=2, **options)[1])
    run = tmp_path / "engine_toys.plain"

    first = launch(tmp_path, ["engine_toys.plain"], epochs=2, environment={"PAUSE": "0.05"}, **options)
    while not (run / "step-00000004.safetensors").exists() and first.is_alive():
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    assert first.exitcode == -signal.SIGKILL
    reached = checkpoint.load(checkpoint.latest(run)).step
    assert 4 <= reached < 14

    second = launch(tmp_path, ["engine_toys.plain"], epochs=2, environment={"KILL_IN_SAVE": "3"}, **options)
    second.join()
    assert second.exitcode == -signal.SIGKILL
    assert list(run.glob(".step-*.tmp"))  # it was in the middle of writing
    assert checkpoint.load(checkpoint.latest(run)).step == reached + 2

    third = launch(tmp_path, ["engine_toys.plain"], epochs=2, environment={}, **options)
    third.join()
    assert third.exitcode == 0
    assert not list(run.glob(".step-*.tmp"))
    same_bits(whole, checkpoint.load(checkpoint.latest(run)))
