"""Base-Derivative: which images meet in which loss, the rows of its ablation, its switches, and what it refuses."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
import yaml
from one_rank import OneRank
from torch import Tensor
from torch.nn import functional

from visir.core.batch import Batch
from visir.core.config import parse
from visir.core.draws import IdentityBalanced, Pairs, Stream, Unpaired
from visir.core.errors import ConfigError, TrainingError
from visir.core.types import Modality
from visir.experiment.config import load
from visir.experiment.shipped import find_config
from visir.losses.triplet import cross_triplet_loss, triplet_loss
from visir.methods.base_derivative import BaseDerivative, BaseDerivativeConfig

SMALL = BaseDerivativeConfig(backbone="tiny", stream=Stream(IdentityBalanced(2, 2), height=48, width=24))

V, IR, DV, DI = "visible", "infrared", "visible_derived", "infrared_derived"
# of the paper's fourth table: modalities, whether the multi-mode loss is on, pairs
ROWS: dict[str, tuple[set[str], bool, set[frozenset[str]]]] = {
    "b1": ({IR, V}, False, set()),
    "b2": ({IR, V}, True, {frozenset((IR, V))}),
    "mdl-1": ({IR, V, DI}, True, {frozenset((IR, V)), frozenset((V, DI))}),
    "mdl-2": ({IR, V, DV}, True, {frozenset((IR, V)), frozenset((IR, DV))}),
    "mdl-3": ({IR, V, DI, DV}, True, {frozenset(p) for p in ((IR, V), (V, DI), (IR, DV), (DI, DV))}),
    "full": ({IR, V, DI, DV}, True, {frozenset(p) for p in ((IR, V), (V, DI), (IR, DV))}),
}


def balanced(people: int = 2, each: int = 2) -> Batch:
    count = people * each
    return Batch(
        images=torch.randn(2 * count, 3, 48, 24, generator=torch.Generator().manual_seed(0)),
        identity=torch.arange(people).repeat_interleave(each).repeat(2),
        camera=torch.zeros(2 * count, dtype=torch.int64),
        modality=torch.arange(2).repeat_interleave(count),
    )


def made(**changes: object) -> BaseDerivative:
    torch.manual_seed(0)
    return BaseDerivative(dataclasses.replace(SMALL, **changes), 5)  # type: ignore[arg-type]


def row(name: str, base: str = "sysu_mm01") -> BaseDerivativeConfig:
    rows = yaml.safe_load(find_config("base_derivative/ablation").read_text(encoding="utf-8"))["rows"]
    values = next(r.get("set", {}) for r in rows if r["name"] == name)
    options = load(find_config(f"base_derivative/{base}"), values=values).options
    assert isinstance(options, BaseDerivativeConfig)
    return options


def slow_terms(method: BaseDerivative, batch: Batch) -> dict[str, Tensor]:
    """The three losses, every set through the network by itself."""
    config, encoder = method.config, method.encoder
    images = dict(zip((V, IR), batch.images.chunk(2), strict=True))
    labels = batch.identity[: len(batch) // 2]
    features = {}
    for mode in config.modalities:
        origin = Modality.VISIBLE if mode in (V, DV) else Modality.INFRARED
        own = images[V if origin == Modality.VISIBLE else IR]
        given = encoder.derivatives(own, origin) if mode in (DV, DI) else own
        features[mode] = encoder.network.rest(encoder.network.of(origin)(given)).mean((2, 3))
    logits = torch.cat([method.classifier(encoder.neck(features[mode])) for mode in config.modalities])
    terms = {"identity": functional.cross_entropy(logits, labels.repeat(len(config.modalities)))}
    within = [triplet_loss(features[mode], labels, margin=config.alpha_1) for mode in config.modalities]
    terms["multi_mode"] = torch.stack(within).sum()
    across = [
        cross_triplet_loss(features[a], features[b], labels, labels, margin=config.alpha_2)
        for pair in config.pairs
        for a, b in (pair, pair[::-1])
    ]
    terms["multi_directional"] = torch.stack(across or [torch.zeros(())]).sum()
    return terms


@pytest.mark.parametrize("name", ROWS)
class TestAblation:
    @pytest.mark.parametrize("base", ["sysu_mm01", "regdb"])
    def test_row_has_the_modalities_and_pairs_of_the_paper(self, name: str, base: str) -> None:
        modalities, multi_mode, pairs = ROWS[name]
        config = row(name, base)
        assert len(config.modalities) == len(modalities)
        assert set(config.modalities) == modalities
        assert len(config.pairs) == len(pairs)
        assert {frozenset(pair) for pair in config.pairs} == pairs
        assert bool(config.lambda_1) == multi_mode
        changed = {"modalities", "pairs", "lambda_1", "lambda_2"}
        standard = BaseDerivativeConfig()
        for field in dataclasses.fields(config):
            if field.name not in changed:
                assert getattr(config, field.name) == getattr(standard, field.name)

    def test_terms_are_those_of_the_sets_one_by_one(self, name: str) -> None:
        config = row(name)
        method = made(**{k: getattr(config, k) for k in ("modalities", "pairs", "lambda_1", "lambda_2")}).eval()
        batch = balanced()
        terms, expected = method.losses(batch, OneRank()), slow_terms(method, batch)
        assert list(terms) == (["identity"] if name == "b1" else ["identity", "multi_mode", "multi_directional"])
        for key, value in terms.items():
            torch.testing.assert_close(value, expected[key], atol=1e-5, rtol=1e-4)

    def test_only_derivatives_that_are_used_have_a_generator(self, name: str) -> None:
        config = row(name)
        method = made(modalities=config.modalities, pairs=config.pairs)
        derived = sum(mode in (DV, DI) for mode in config.modalities)
        assert sum(p.numel() for p in method.encoder.derivatives.parameters()) == 10 * derived


def test_rows_are_all_there() -> None:
    content = yaml.safe_load(find_config("base_derivative/ablation").read_text(encoding="utf-8"))
    assert [r["name"] for r in content["rows"]] == list(ROWS)
    assert content["base"] == ["sysu_mm01.yaml", "regdb.yaml"]


@pytest.mark.parametrize(("name", "epochs"), [("sysu_mm01", 81), ("regdb", 81)])
def test_files_state_the_defaults(name: str, epochs: int) -> None:
    experiment = load(find_config(f"base_derivative/{name}"))
    assert experiment.options == BaseDerivativeConfig()
    assert (experiment.train.epochs, experiment.train.validate_every) == (epochs, 0)
    assert experiment.benchmark.split == "trainval"


def test_worked_identity_loss() -> None:
    """Logits (2, 1, 0) of identity 0, for every image of every modality."""
    method = made()
    batch = dataclasses.replace(balanced(), identity=torch.zeros(8, dtype=torch.int64))
    method.classifier = torch.nn.Linear(256, 3)
    torch.nn.init.zeros_(method.classifier.weight)
    with torch.no_grad():
        method.classifier.bias.copy_(torch.tensor([2.0, 1.0, 0.0]))
    assert method.losses(batch, OneRank())["identity"].item() == pytest.approx(0.407606, abs=1e-6)


def test_worked_multi_mode_and_multi_directional_losses() -> None:
    method = made(modalities=(V, IR), pairs=((IR, V),))
    within: Any = {V: torch.tensor([[0.0], [1.0], [1.2], [2.0]]), IR: torch.tensor([[0.0], [1.0], [1.2], [2.0]])}
    identities: Any = dict.fromkeys((V, IR), torch.tensor([0, 0, 1, 1]))
    assert method._multi_mode(within, identities).item() == pytest.approx(2 * 0.55, abs=1e-5)
    across: Any = {V: torch.tensor([[0.5], [0.6]]), IR: torch.tensor([[0.0], [2.0]])}
    identities = dict.fromkeys((V, IR), torch.tensor([0, 1]))
    assert method._multi_directional(across, identities).item() == pytest.approx(0.75, abs=1e-5)
    method = made(modalities=(V, IR), pairs=((IR, V),), reduction="sum")
    assert method._multi_directional(across, identities).item() == pytest.approx(1.5, abs=1e-5)


def test_mean_over_modes_is_the_sum_divided_by_their_number() -> None:
    batch = balanced()
    summed, mean = (made(mode_reduce=how).eval().losses(batch, OneRank()) for how in ("sum", "mean"))
    torch.testing.assert_close(mean["multi_mode"], summed["multi_mode"] / 4)
    torch.testing.assert_close(mean["multi_directional"], summed["multi_directional"] / 3)


def test_weights_scale_their_terms() -> None:
    batch = balanced()
    plain = made().eval().losses(batch, OneRank())
    scaled = made(lambda_1=2.0, lambda_2=0.5).eval().losses(batch, OneRank())
    torch.testing.assert_close(scaled["multi_mode"], 2 * plain["multi_mode"])
    torch.testing.assert_close(scaled["multi_directional"], plain["multi_directional"] / 2)


@pytest.mark.parametrize("num_identities", [206, 395])
def test_parameters(num_identities: int) -> None:
    with torch.device("meta"):
        method = BaseDerivative(BaseDerivativeConfig(), num_identities)
        four = BaseDerivative(BaseDerivativeConfig(stems="four"), num_identities)
        pooled, embedded = method.encoder(torch.zeros(4, 3, 288, 144), torch.tensor([0, 0, 1, 1]), sets=True)
    stem = 64 * 3 * 49 + 128
    counts = {
        "network": sum(p.numel() for p in method.encoder.network.parameters()),
        "generators": sum(p.numel() for p in method.encoder.derivatives.parameters()),
        "neck": sum(p.numel() for p in method.encoder.neck.trainable()),
        "classifier": sum(p.numel() for p in method.classifier.parameters()),
    }
    expected = {"network": 23_508_032 + stem, "generators": 20, "neck": 2048, "classifier": 2048 * num_identities}
    assert counts == expected
    assert sum(counts.values()) == sum(p.numel() for p in method.parameters() if p.requires_grad)
    assert sum(p.numel() for p in four.parameters()) == sum(p.numel() for p in method.parameters()) + 2 * stem
    assert pooled.shape == embedded.shape == (8, 2048)
    assert (method.encoder.dim, method.encoder.network.grid) == (2048, (18, 9))


def test_a_derivative_shares_the_stem_of_its_origin_and_its_statistics() -> None:
    seen: dict[str, list[int]] = {"visible": [], "infrared": [], "rest": []}
    method = made()
    network = method.encoder.network
    for name, module in (("visible", network.visible), ("infrared", network.infrared), ("rest", network.shared)):
        module.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(len(inputs[0])))
    method.losses(balanced(), OneRank())
    assert seen == {"visible": [8], "infrared": [8], "rest": [16]}


def test_four_stems_start_equal_and_are_apart() -> None:
    two, four = made().eval(), made(stems="four").eval()
    batch = balanced()
    for mine, theirs in zip(two.losses(batch, OneRank()).values(), four.losses(batch, OneRank()).values(), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert {id(p) for p in four.encoder.own_stems.parameters()}.isdisjoint(
        id(p) for p in four.encoder.network.parameters()
    )


def test_three_learning_groups_are_two_rates() -> None:
    method = made(stems="four")
    optim = method.optimizer()
    slow, fast = optim.optimizer.param_groups
    assert (slow["lr"], fast["lr"]) == (0.01, 0.1)
    assert {(g["momentum"], g["weight_decay"], g["nesterov"]) for g in (slow, fast)} == {(0.9, 5e-4, True)}
    assert {id(p) for p in method.encoder.derivatives.parameters()} < {id(p) for p in fast["params"]}
    assert {id(p) for p in method.encoder.own_stems.parameters()} < {id(p) for p in slow["params"]}
    trained = {id(p) for group in (slow, fast) for p in group["params"]}
    assert trained == {id(p) for p in method.parameters() if p.requires_grad}
    factors = [optim.schedule(epoch) for epoch in (0, 9.9, 15, 20, 50, 80)]
    assert factors == pytest.approx([0.1, 1, 1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    "changes",
    [{}, {"derivative": "mmn"}, {"derivative": "gray"}, {"stems": "four"}, {"non_local": True, "pooling": "gem"}],
    ids=str,
)
def test_gradients_reach_every_image_and_every_parameter(changes: dict[str, object]) -> None:
    method, batch = made(**changes), balanced()
    images = batch.images.requires_grad_()
    torch.stack(list(method.losses(batch, OneRank()).values())).sum().backward()
    assert images.grad is not None
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)


def test_sets_of_all_ranks_are_compared() -> None:
    gathered: list[tuple[int, ...]] = []

    class Recorder(OneRank):
        def gather(self, tensor: Tensor) -> Tensor:
            gathered.append(tuple(tensor.shape))
            return tensor

    made().losses(balanced(), Recorder())
    assert gathered == [(4, 256)] * 4 + [(4,)] * 2
    gathered.clear()
    made(modalities=(V, IR), pairs=(), lambda_1=0.0).losses(balanced(), Recorder())
    assert gathered == []


class TestEmbedding:
    def test_is_the_neck_of_the_image_alone_in_any_order(self) -> None:
        method, batch = made().eval(), balanced()
        order = torch.tensor([5, 0, 7, 2, 1, 6, 3, 4])
        encoder = method.encoder
        with torch.no_grad():
            embedded = encoder(batch.images, batch.modality)
            expected = encoder.neck(encoder.network(batch.images, batch.modality).mean((2, 3)))
            torch.testing.assert_close(embedded, expected)
            mixed = encoder(batch.images[order], batch.modality[order])
            torch.testing.assert_close(mixed, embedded[order], atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("stems", ["two", "four"])
    def test_fused_products_are_a_quarter_of_the_four_similarities(self, stems: str) -> None:
        method, batch = made(test_fuse="sum4", stems=stems).eval(), balanced()
        encoder = method.encoder
        torch.nn.init.normal_(encoder.derivatives.encoders["visible"].decode.weight)
        with torch.no_grad():
            embedded = encoder(batch.images, batch.modality)
            assert embedded.shape == (8, encoder.dim) == (8, 258)
            torch.testing.assert_close(embedded.norm(dim=1), torch.ones(8))
            units = []
            for origin, half in zip(Modality, batch.images.chunk(2), strict=True):
                for given in (half, encoder.derivatives(half, origin)):
                    neck = encoder.neck(encoder.network.rest(encoder.network.of(origin)(given)).mean((2, 3)))
                    units.append(functional.normalize(neck))
            visible, derived_visible, infrared, derived_infrared = units
            four = sum(a @ b.T for a in (visible, derived_visible) for b in (infrared, derived_infrared))
            torch.testing.assert_close(4 * embedded[:4] @ embedded[4:].T, four)

    def test_fused_exports(self) -> None:
        encoder, batch = made(test_fuse="sum4").eval().encoder, balanced()
        rows = torch.export.Dim("rows", min=2, max=64)
        with torch.no_grad():
            shapes = ({0: rows}, {0: rows})
            exported = torch.export.export(encoder, (batch.images[:4], batch.modality[:4]), dynamic_shapes=shapes)
            found = exported.module()(batch.images, batch.modality)
            torch.testing.assert_close(found, encoder(batch.images, batch.modality))

    def test_of_a_transformer(self) -> None:
        method = made(backbone="test_vit", stream=Stream(IdentityBalanced(2, 1), height=64, width=32))
        images = torch.randn(4, 3, 64, 32)
        batch = Batch(images, torch.tensor([0, 1, 0, 1]), torch.zeros(4, dtype=torch.int64), torch.tensor([0, 0, 1, 1]))
        assert all(torch.isfinite(term) for term in method.losses(batch, OneRank()).values())
        assert method.eval().encoder(images[:1], torch.ones(1, dtype=torch.int64)).shape == (1, method.encoder.dim)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alpha_1": -1}, "alpha_1 must be a finite number"),
        ({"lambda_2": math.nan}, "lambda_2 must be a finite number"),
        ({"modalities": [V]}, "modalities must name visible, infrared"),
        ({"modalities": [V, IR, IR], "pairs": []}, "modalities must name visible, infrared and each only once"),
        ({"modalities": [V, IR]}, "pairs must be of the modalities, .visible, infrared_derived. is not"),
        ({"pairs": [[V, DV]]}, "pairs must cross from visible to infrared"),
        ({"pairs": [[V, IR], [IR, V]]}, "pairs must name each pair only once"),
        ({"modalities": [V, IR, DV], "pairs": [], "test_fuse": "sum4"}, "test_fuse must be none"),
        ({"modalities": ["thermal"]}, "modalities"),
    ],
)
def test_impossible_options_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(BaseDerivativeConfig, values, where="with")


def test_draws_without_pairs_are_refused() -> None:
    with pytest.raises(ConfigError, match="with.stream.draw: Base-Derivative .* 'unpaired'"):
        made(stream=Stream(Unpaired(4), height=48, width=24))
    made(stream=Stream(Pairs(4), height=48, width=24))


def test_batches_of_another_order_are_refused_at_the_first_step() -> None:
    batch = balanced()
    mixed = dataclasses.replace(batch, modality=batch.modality.flip(0))
    with pytest.raises(TrainingError, match="Base-Derivative: expected a batch of N visible images"):
        made().losses(mixed, OneRank())
