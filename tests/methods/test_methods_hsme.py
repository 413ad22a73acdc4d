"""HSME and D-HSME: the loss, the phase in which the embedding is decorrelated and fixed, resuming, and the files."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from one_rank import OneRank
from torch import Tensor

import visir
from visir.core.batch import Batch
from visir.core.config import parse
from visir.core.draws import IdentityBalanced, Pairs, Stream
from visir.core.errors import ConfigError
from visir.engine import checkpoint
from visir.engine.build import build
from visir.engine.runtime import Runtime
from visir.experiment.ablation import read_ablation
from visir.losses.sphere import sphere_softmax_loss
from visir.methods.hsme import HSME, HSMEConfig, principal_turn

sys.path.append(str(Path(__file__).parents[1] / "contract"))
from toys import PEOPLE, ToySource, rank1, small_config, trained

EMBEDDING, CLASSES = "encoder.embedding.weight", "classes.weight"
SMALL = HSMEConfig(backbone="tiny", stream=Stream(IdentityBalanced(4, 1), height=48, width=24), dim=16)


@dataclasses.dataclass
class Recorder(OneRank):
    """One rank that remembers what was minimized, and may have others to gather from."""

    others: Callable[[Tensor], Tensor] = lambda tensor: tensor
    minimized: list[tuple[str, ...]] = dataclasses.field(default_factory=list)

    def minimize(self, loss: Tensor, *names: str) -> None:
        self.minimized.append(names)

    def gather(self, tensor: Tensor) -> Tensor:
        return self.others(tensor)


def made(**changes: object) -> HSME:
    torch.manual_seed(0)
    return HSME(dataclasses.replace(SMALL, **changes), PEOPLE)  # type: ignore[arg-type]


def toy(start: float | None) -> HSME:
    method = build("hsme", dataclasses.replace(small_config("hsme"), decorrelate_from=start), PEOPLE, seed=3)
    assert isinstance(method, HSME)
    return method


def batch() -> Batch:
    return ToySource(Pairs(4), steps_per_epoch=1).batch(0)


def test_loss_is_the_sphere_softmax_over_both_spectra() -> None:
    method, given = made(scale=5.0).eval(), batch()
    terms = method.train_step({"main": given}, Recorder())
    features = method.encoder(given.images, given.modality)
    expected = sphere_softmax_loss(features, method.classes.weight, given.identity, scale=5.0)
    assert list(terms) == ["sphere"]
    torch.testing.assert_close(terms["sphere"], expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert method.train_step({"main": given}, Recorder())["sphere"].dtype == torch.float32


def test_parameters() -> None:
    with torch.device("meta"):
        method = HSME(HSMEConfig(), 296)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in method.encoder.named_children()}
    assert counts == {"streams": 2 * 23_508_032, "embedding": 2048 * 1024}
    assert sum(p.numel() for p in method.classes.parameters()) == 1024 * 296
    assert method.encoder.dim == 1024


@pytest.mark.parametrize("shape", [(5, 9), (6, 6), (9, 5)], ids=str)
def test_turn_gives_the_weight_of_the_decomposition(shape: tuple[int, int]) -> None:
    weight = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turn = principal_turn(weight)
    torch.testing.assert_close(turn @ turn.T, torch.eye(shape[0], dtype=torch.float64))
    turned = turn @ weight
    left, lengths, _ = torch.linalg.svd(weight.T, full_matrices=False)  # W = U S V^T in the orientation of the paper
    short = min(shape)
    for row, axis, length in zip(turned[:short], left.T, lengths, strict=True):
        assert torch.allclose(row, length * axis) or torch.allclose(row, -length * axis)
    assert bool((turned[short:].abs() < 1e-9).all())
    torch.testing.assert_close(principal_turn(weight), turn, atol=0, rtol=0)


@pytest.mark.parametrize(
    "weight", [torch.eye(5)[:, :3], torch.eye(4)[:, 1:2], torch.zeros(4, 2)], ids=["several", "one", "none"]
)
def test_turn_is_orthogonal_where_features_lie_along_axes(weight: Tensor) -> None:
    turn = principal_turn(weight)
    torch.testing.assert_close(turn @ turn.T, torch.eye(len(weight), dtype=torch.float64))
    turned = turn @ weight.double()
    torch.testing.assert_close(turned.T @ turned, weight.double().T @ weight.double())


def test_signs_do_not_depend_on_those_of_the_decomposition() -> None:
    turn = principal_turn(torch.randn(7, 11, generator=torch.Generator().manual_seed(0)))
    assert bool((turn.gather(1, turn.abs().argmax(1, keepdim=True)) > 0).all())


def test_decorrelating_changes_no_angle_and_no_loss() -> None:
    method, given = made().eval(), batch()
    before, loss = method.encoder(given.images, given.modality), method.train_step({"main": given}, Recorder())
    method.decorrelate(Recorder())
    after, again = method.encoder(given.images, given.modality), method.train_step({"main": given}, Recorder())
    torch.testing.assert_close(after @ after.T, before @ before.T)
    torch.testing.assert_close(again["sphere"], loss["sphere"])
    assert not torch.allclose(after, before)
    products = method.encoder.embedding.weight @ method.encoder.embedding.weight.T
    torch.testing.assert_close(products, products.diag().diag(), atol=1e-5, rtol=0)
    assert bool((products.diag().diff() <= 0).all())


def test_every_rank_takes_the_weights_of_the_first() -> None:
    method = made()
    method.decorrelate(Recorder(others=lambda tensor: torch.cat([tensor + 1, tensor])))
    expected = made()
    expected.decorrelate(Recorder())
    for name in (EMBEDDING, CLASSES):
        torch.testing.assert_close(method.state_dict()[name], expected.state_dict()[name] + 1)


def test_phase_begins_at_its_epoch_and_only_then() -> None:
    method, given = made(decorrelate_from=1.5), {"main": batch()}
    for epoch, names in ((0.0, 2), (1.0, 2), (1.5, 1), (2.0, 1)):
        step, before = Recorder(epoch=epoch), method.encoder.embedding.weight.detach().clone()
        method.train_step(given, step)
        assert step.minimized == [("main", "embedding")[:names]]
        assert torch.equal(before, method.encoder.embedding.weight) == (epoch != 1.5)
        assert bool(method.decorrelated) == (epoch >= 1.5)
    never, step = made(decorrelate_from=None), Recorder(epoch=1e6)
    never.train_step(given, step)
    assert step.minimized == [("main", "embedding")]


@pytest.mark.parametrize(("start", "cut"), [(1.5, 1), (1.5, 2), (2.0, 2), (0.0, 1)], ids=str)
def test_resumes_bit_for_bit_across_the_phases(start: float, cut: int, tmp_path: Path) -> None:
    whole, _ = trained(toy(start), epochs=3, steps_per_epoch=2)
    part, _ = trained(toy(start), epochs=cut, steps_per_epoch=2)
    read = checkpoint.load(checkpoint.save(tmp_path, part))
    resumed, _ = trained(toy(start), epochs=3, steps_per_epoch=2, resume=read)
    assert set(resumed.tensors) == set(whole.tensors)
    assert [key for key in whole.tensors if not torch.equal(whole.tensors[key], resumed.tensors[key])] == []
    assert dict(resumed.values) == dict(whole.values)
    assert bool(whole.model()["decorrelated"])
    assert bool(part.model()["decorrelated"]) == (cut > start)
    assert torch.equal(part.model()[EMBEDDING], whole.model()[EMBEDDING]) == (cut > start)
    assert not torch.equal(part.model()[CLASSES], whole.model()[CLASSES])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_learns_in_both_phases(precision: str) -> None:
    method = toy(4.0)
    runtime = Runtime(precision=precision)  # type: ignore[arg-type]
    _, terms = trained(method, epochs=9, steps_per_epoch=6, runtime=runtime)
    losses = [epoch["sphere"] for epoch in terms]
    assert losses[4] < losses[2]  # no jump where the phase begins
    assert losses[-1] < 0.5 * losses[3]
    assert rank1(method) > 0.8
    weight = method.encoder.embedding.weight.double()
    products = weight @ weight.T
    torch.testing.assert_close(products, products.diag().diag(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dim": 0}, "dim must be at least 1"),
        ({"scale": 0}, "scale must be a finite number above 0"),
        ({"decorrelate_from": -1}, "decorrelate_from must be at least 0, or null"),
    ],
)
def test_impossible_numbers_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(HSMEConfig, values, where="with")


@pytest.mark.parametrize("benchmark", ["sysu_mm01", "regdb"])
def test_files(benchmark: str) -> None:
    ablation = read_ablation(Path(visir.__file__).parent / "configs" / "hsme" / "ablation.yaml")
    starts = {row.name: ablation.experiment(row, benchmark).options for row in ablation.rows}
    assert starts == {"hsme": HSMEConfig(decorrelate_from=None), "d-hsme": HSMEConfig()}
    assert ablation.experiment(ablation.rows[1], benchmark).train.epochs == 80
