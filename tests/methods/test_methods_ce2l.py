"""CE2L: which images go where, its terms, and what is left without conversion: BDTR."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import yaml
from one_rank import OneRank
from torch import Tensor, nn

from visir.core.batch import Batch
from visir.core.config import parse
from visir.core.draws import IdentityBalanced, Stream, Unpaired
from visir.core.errors import ConfigError, TrainingError
from visir.experiment.config import load
from visir.experiment.shipped import find_config
from visir.losses.ranking import intra_ranking_loss, top_ranking_loss
from visir.methods.bdtr import BDTR, BDTRConfig
from visir.methods.ce2l import CE2L, CE2LConfig

STREAM = Stream(IdentityBalanced(3, 1), height=48, width=24)
SMALL = CE2LConfig(backbone="tiny", stream=STREAM, dim=8, dropout=0.0)


def drawn(count: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        images=torch.randn(2 * count, 3, 48, 24, generator=generator),
        identity=torch.arange(count).repeat(2),
        camera=torch.zeros(2 * count, dtype=torch.int64),
        modality=torch.arange(2).repeat_interleave(count),
        converted=torch.randn(2 * count, 3, 48, 24, generator=generator),
    )


def made(**changes: object) -> CE2L:
    torch.manual_seed(0)
    method = CE2L(dataclasses.replace(SMALL, **changes), 3)
    nn.init.normal_(method.encoder.streams.infrared[-1].bias)  # the streams differ, as they do once trained
    return method


def parts(batch: Batch) -> dict[str, Tensor]:
    """Real and converted images by what they look like: ``v_hat`` was made from ``t``, ``t_hat`` from ``v``."""
    assert batch.converted is not None
    half = len(batch) // 2
    return {
        "v": batch.images[:half],
        "t": batch.images[half:],
        "t_hat": batch.converted[:half],
        "v_hat": batch.converted[half:],
    }


USED = {"both": (["v", "v_hat"], ["t", "t_hat"]), "ir2v": (["v", "v_hat"], ["t"]), "v2ir": (["v"], ["t", "t_hat"])}


@pytest.mark.parametrize("direction", USED)
def test_every_stream_reads_what_looks_like_its_spectrum(direction: str) -> None:
    method, batch = made(direction=direction), drawn()
    read: list[Tensor] = []
    for stream in (method.encoder.streams.visible, method.encoder.streams.infrared):
        stream.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    method.losses(batch, OneRank())
    assert len(read) == 2
    for found, names in zip(read, USED[direction], strict=True):
        assert torch.equal(found, torch.cat([parts(batch)[name] for name in names]))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("direction", USED)
def test_terms_are_those_of_the_paper(direction: str, smoothing: float) -> None:
    method = made(direction=direction, smoothing=smoothing, ranking=2.0, intra=0.5, intra_margin=1.2).eval()
    batch, (visible, infrared) = drawn(), USED[direction]
    people = batch.identity[:3]
    with torch.no_grad():
        embedded = {
            name: method.encoder(images, torch.full((3,), int(name.startswith("t"))))
            for name, images in parts(batch).items()
        }
    costs = []
    for name in (*visible, *infrared):
        epsilon = smoothing if name.endswith("hat") else 0.0
        for logits, person in zip(method.classifier(embedded[name]).tolist(), people.tolist(), strict=True):
            whole = sum(map(math.exp, logits))
            targets = [epsilon / 3 + (1 - epsilon) * (other == person) for other in range(3)]
            costs.append(-sum(q * math.log(math.exp(x) / whole) for q, x in zip(targets, logits, strict=True)))
    seen, unseen = (torch.cat([embedded[name] for name in names]) for names in (visible, infrared))
    compared = (seen, unseen, people.repeat(len(visible)), people.repeat(len(infrared)))
    terms = method.losses(batch, OneRank())
    assert list(terms) == ["identity", "ranking", "intra"]
    assert terms["identity"].item() == pytest.approx(sum(costs) / len(costs), rel=1e-5)
    torch.testing.assert_close(terms["ranking"], 2.0 * top_ranking_loss(*compared, margin=0.5))
    torch.testing.assert_close(terms["intra"], 2.0 * 0.5 * intra_ranking_loss(*compared, margin=1.2))


@pytest.mark.parametrize("changes", [{}, {"intra": 0.0}, {"ranking": 0.0}, {"ranking": 2.0, "dropout": 0.5}], ids=str)
def test_without_conversion_it_is_bdtr(changes: dict[str, Any]) -> None:
    """Term for term and gradient for gradient, whether or not converted images lie at hand."""
    method, batch = made(conversion=False, **changes), drawn()
    config = BDTRConfig(**({"backbone": "tiny", "stream": STREAM, "dim": 8, "dropout": 0.0} | changes))
    other = BDTR(config, 3)
    other.load_state_dict(method.state_dict())
    for images in (batch, dataclasses.replace(batch, converted=None)):
        gradients = []
        for one in (method, other):
            torch.manual_seed(1)  # of dropout
            terms = one.losses(images, OneRank())
            one.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            gradients.append((terms, [p.grad for p in one.parameters()]))
        (terms, own), (expected, theirs) = gradients
        assert list(terms) == list(expected)
        assert all(torch.equal(terms[name], expected[name]) for name in expected)
        assert all(torch.equal(a, b) for a, b in zip(own, theirs, strict=True))


def test_defaults_are_those_of_bdtr_where_the_paper_is_silent() -> None:
    own, theirs = dataclasses.asdict(CE2LConfig()), dataclasses.asdict(BDTRConfig())
    theirs["stream"]["converted"] = True
    assert {name: own[name] for name in own.keys() & theirs.keys()} == {
        name: theirs[name] for name in own.keys() & theirs.keys()
    }
    assert own.keys() - theirs.keys() == {"conversion", "direction", "smoothing"}
    assert (own["conversion"], own["direction"], own["smoothing"]) == (True, "both", 0.1)


def test_converted_images_are_asked_for_where_they_are_used() -> None:
    for conversion in (True, False):
        method = made(conversion=conversion)
        (stream,) = method.streams().values()
        assert stream == method.config.stream == dataclasses.replace(STREAM, converted=conversion)
    (stream,) = made(direction="v2ir").streams().values()
    assert stream.converted == "v2ir"


@pytest.mark.parametrize(("given", "converted"), [({}, True), ({"with.conversion": False}, False)], ids=str)
def test_a_resolved_experiment_says_whether_it_needs_converted_images(given: dict[str, Any], converted: bool) -> None:
    """Who plans runs looks there, before anything is built."""
    experiment = load(find_config("ce2l/regdb"), values=given)
    assert experiment.options.stream.converted is converted
    assert experiment.resolved()["with"]["stream"]["converted"] is converted


def test_a_batch_without_converted_images_is_refused() -> None:
    batch = dataclasses.replace(drawn(), converted=None)
    with pytest.raises(TrainingError, match="CE2L: expected a batch with its images converted .* benchmark.converted"):
        made().losses(batch, OneRank())


def test_batches_of_another_order_and_draws_without_pairs_are_refused() -> None:
    batch = drawn()
    with pytest.raises(TrainingError, match="CE2L: expected a batch of N visible images"):
        made().losses(dataclasses.replace(batch, modality=batch.modality.flip(0)), OneRank())
    with pytest.raises(ConfigError, match="with.stream.draw: CE2L .* 'unpaired'"):
        made(stream=Stream(Unpaired(4), height=48, width=24))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dim": 0}, "dim must be at least 1"),
        ({"margin": math.nan}, "margin must be a finite number"),
        ({"smoothing": 1.1}, "smoothing must be at least 0 and at most 1"),
        ({"dropout": -0.1}, "dropout must be at least 0 and below 1"),
        ({"direction": "t2v"}, "direction"),
    ],
)
def test_impossible_numbers_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(CE2LConfig, values, where="with")


@pytest.mark.parametrize("num_identities", [206, 296, 395])
def test_parameters_are_those_of_bdtr(num_identities: int) -> None:
    with torch.device("meta"):
        methods = CE2L(CE2LConfig(), num_identities), BDTR(BDTRConfig(), num_identities)
    counts = [sum(p.numel() for p in method.parameters()) for method in methods]
    assert counts[0] == counts[1] == 2 * 40_095_104 + 4_195_328 + 1025 * num_identities


def test_gradients_reach_every_image_and_every_parameter() -> None:
    method, batch = made(), drawn()
    assert batch.converted is not None
    images, converted = batch.images.requires_grad_(), batch.converted.requires_grad_()
    torch.stack(list(method.losses(batch, OneRank()).values())).sum().backward()
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()
    assert (converted.grad.flatten(1).abs().sum(1) > 0).all()
    assert all(p.grad is not None for p in method.parameters())


def test_losses_are_computed_in_full_precision() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        terms = made().losses(drawn(), OneRank())
    assert {term.dtype for term in terms.values()} == {torch.float32}


@pytest.mark.parametrize("benchmark", ["sysu_mm01", "regdb"])
def test_rows_of_the_ablation(benchmark: str) -> None:
    rows: list[dict[str, Any]] = yaml.safe_load(find_config("ce2l/ablation").read_text(encoding="utf-8"))["rows"]
    options = {r["name"]: load(find_config(f"ce2l/{benchmark}"), values=r.get("set", {})).options for r in rows}
    assert {name: (o.conversion, o.smoothing, o.ranking, o.intra) for name, o in options.items()} == {
        "baseline": (False, 0.0, 1.0, 0.1),
        "hard-labels": (True, 0.0, 1.0, 0.1),
        "full": (True, 0.1, 1.0, 0.1),
        "without-intra": (True, 0.1, 1.0, 0.0),
        "without-ranking": (True, 0.1, 0.0, 0.1),
    }
    for option in options.values():  # nothing else differs
        named = {name: getattr(option, name) for name in ("conversion", "smoothing", "ranking", "intra")}
        assert dataclasses.replace(options["full"], **named) == option
    assert dataclasses.replace(options["full"], recipe=CE2LConfig().recipe) == CE2LConfig()


@pytest.mark.parametrize("benchmark", ["sysu_mm01", "regdb"])
def test_its_baseline_trains_as_bdtr_does(benchmark: str) -> None:
    own, theirs = (load(find_config(f"{name}/{benchmark}")) for name in ("ce2l", "bdtr"))
    assert (replace(own.benchmark, converter=""), own.train) == (theirs.benchmark, theirs.train)
    assert own.options.recipe == theirs.options.recipe
