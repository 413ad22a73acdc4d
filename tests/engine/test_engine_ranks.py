"""Two gloo processes train as one process on the joined batch; what they are made of, in one process."""

import socket

import pytest
import torch
import torch.nn.functional as F
from engine_same import distance, finish, same_bits
from engine_toys import program

from visir.core.errors import ConfigError
from visir.engine import checkpoint, ranks, runtime


def test_two_ranks_equal_one_rank_on_the_joined_batch(small, tmp_path, launch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    names = ["engine_toys.plain", "engine_toys.gan"]
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    both = [
        launch(tmp_path, names, epochs=1, environment={**world, "RANK": rank, "LOCAL_RANK": rank}, double=True)
        for rank in ("0", "1")
    ]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    for name in names:
        _, alone = finish(program.train(small, name, epochs=1, double=True)[1])
        folders = (tmp_path / name, tmp_path / name / "rank1")
        first, second = (checkpoint.load(checkpoint.latest(folder)) for folder in folders)
        same_bits(first, second)
        assert first.step == alone.step == 7
        assert distance(first, alone) < 1e-7  # in double precision; Adam enlarges the last bits


@pytest.fixture
def alone(monkeypatch):
    """Collectives of a world of one process, in which every function below must be the identity or the usual one."""
    monkeypatch.setattr(ranks.dist, "all_reduce", lambda tensor: None)


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4), (6, 3, 4, 5)])
@pytest.mark.parametrize("affine", [True, False])
def test_joint_statistics_of_one_rank_are_those_of_pytorch(alone, shape, affine):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weight, bias = (torch.randn(3, dtype=torch.float64, requires_grad=True) if affine else None for _ in range(2))
    ways = []
    for mode in (torch.autograd.set_grad_enabled(True), ranks.JointStatistics(0, 1)):
        mean, variance = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
        with mode:
            y = F.batch_norm(x, mean, variance, weight, bias, True, 0.1, 1e-5)
        wanted = [tensor for tensor in (x, weight, bias) if tensor is not None]
        ways.append([y, mean, variance, *torch.autograd.grad((y**3).sum(), wanted)])
    assert all(torch.allclose(one, other, atol=1e-10) for one, other in zip(*ways, strict=True))


def test_joint_statistics_hold_for_modules_and_leave_evaluation_alone(alone, monkeypatch):
    calls = []
    usual = ranks.JointStatistics._joint
    monkeypatch.setattr(ranks.JointStatistics, "_joint", lambda self, x: calls.append(x.shape) or usual(self, x))
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    with ranks.JointStatistics(0, 1):
        net(torch.randn(2, 3, 8, 8))
        net.eval()(torch.randn(2, 3, 8, 8))
    assert calls == [(2, 4, 6, 6)]


def test_low_precision_activations_keep_their_type(alone):
    x = torch.randn(8, 3, 4, 4).bfloat16()
    with ranks.JointStatistics(0, 1):
        y = F.batch_norm(x, None, None, torch.ones(3), torch.zeros(3), True)
    assert y.dtype == torch.bfloat16
    assert torch.allclose(y.float(), F.batch_norm(x.float(), None, None, training=True), atol=0.03)


def test_averages_go_bucket_by_bucket_and_type_by_type(monkeypatch):
    sizes = []
    monkeypatch.setattr(ranks, "BUCKET", 40)
    monkeypatch.setattr(ranks.dist, "all_reduce", lambda flat: sizes.append(len(flat)) or flat.mul_(2.0))
    tensors = [torch.full((n,), float(n)) for n in (4, 8, 3)] + [torch.ones(2, 2, dtype=torch.float64)]
    ranks.average(tensors, 2)
    assert sizes == [12, 3, 4]
    assert [float(t.flatten()[0]) for t in tensors] == [4.0, 8.0, 3.0, 1.0]


def test_one_rank_gathers_and_averages_nothing():
    x = torch.ones(3)
    assert ranks.gather(x, 0, 1) is x
    ranks.average([x], 1)
    assert x.tolist() == [1, 1, 1]


def test_start_refuses_devices_that_are_not_there(monkeypatch):
    with pytest.raises(ConfigError, match="expected auto, cpu, cuda or cuda:N, got 'gpu'"), runtime.start("gpu"):
        pass
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match="expected a GPU number 3, this machine shows 0"), runtime.start("cuda:3"):
        pass


def test_start_reads_precision_and_layout():
    with runtime.start("cpu", precision="bf16", channels_last=True) as here:
        assert here.main
        assert here.memory_format == torch.channels_last
        with here.autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
