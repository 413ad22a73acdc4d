"""AlignGAN: its phases and streams, neighbours, pictures, sizes and files."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_aligngan import SMALL, Looking, batches, made

from visir.core.batch import Batch
from visir.core.config import parse
from visir.core.draws import IdentityBalanced, Pairs, Stream
from visir.core.errors import ConfigError, TrainingError
from visir.experiment.ablation import systems
from visir.methods.aligngan import AlignGAN, AlignGANConfig
from visir.nets.ranges import shown


class TestPhases:
    def test_streams(self) -> None:
        streams = made().streams()
        assert streams == {"feature": SMALL.stream, "pixel": SMALL.stream}
        with torch.device("meta"):
            published = AlignGAN(AlignGANConfig(), 395).streams()
        assert [stream.draw for stream in published.values()] == [
            IdentityBalanced(18, 4, "permuted"),
            IdentityBalanced(4, 4, "permuted"),
        ]
        assert {(stream.height, stream.width) for stream in published.values()} == {(384, 192)}

    @pytest.mark.parametrize(("people", "expected"), [(2, 2), (3, 2), (4, 4), (18, 4)])
    def test_pixel_batches_have_an_even_number_of_the_streams_people(self, people: int, expected: int) -> None:
        draw = made(stream=Stream(IdentityBalanced(people, 2), height=48, width=24)).streams()["pixel"].draw
        assert draw == IdentityBalanced(expected, 2)

    @pytest.mark.parametrize(
        ("lengths", "wanted"),
        [
            ((1.0, 2.0), ["feature", "pixel", "pixel", "feature pixel", "feature pixel"]),
            ((0.0, 1.0), ["pixel", "feature pixel"]),
            ((1.0, 0.0), ["feature", "feature pixel"]),
            ((0.0, 0.0), ["feature pixel"]),
            ((0.5, 1.0), ["feature pixel", "feature pixel"]),
        ],
    )
    def test_only_streams_that_an_epoch_looks_at_are_wanted(
        self, lengths: tuple[float, float], wanted: list[str]
    ) -> None:
        method = made(feature_epochs=lengths[0], pixel_epochs=lengths[1])
        for epoch, names in enumerate(wanted):
            for fraction in (0.0, 0.3, 0.9):
                assert " ".join(method.wanted(epoch + fraction)) == names
                given = {name: batch for name, batch in batches().items() if name in names}
                assert method.train_step(given, Looking(epoch=epoch + fraction))


class TestNeighbours:
    def test_are_of_another_identity(self) -> None:
        method, people = made(), torch.tensor([4, 4, 1, 1, 0, 0, 5, 5])
        assert method._of_others(people).tolist() == [1, 1, 4, 4, 5, 5, 0, 0]
        rows = torch.randn(8, 3, 2, 2)
        torch.testing.assert_close(method._of_others(rows)[4:6], rows[6:8])

    def test_a_batch_that_cannot_be_paired_up_is_refused(self) -> None:
        whole = batches()["pixel"]
        rows = torch.tensor([0, 1, 8, 9])
        fields = {f.name: getattr(whole, f.name) for f in dataclasses.fields(whole)}
        one = Batch(**{name: value if value is None else value[rows] for name, value in fields.items()})
        with pytest.raises(ConfigError, match="with.pixel_identities: AlignGAN pairs up .* an even number of people"):
            made().train_step({"pixel": one}, Looking(epoch=1.5))

    def test_a_batch_in_another_order_is_refused(self) -> None:
        whole = batches()["feature"]
        wrong = dataclasses.replace(whole, modality=whole.modality.flip(0))
        with pytest.raises(TrainingError, match="AlignGAN: expected a batch of N visible"):
            made().train_step({"feature": wrong}, Looking())

    @pytest.mark.parametrize("draw", [Pairs(8), IdentityBalanced(1, 4)], ids=["pairs", "one person"])
    def test_streams_without_several_people_are_refused(self, draw: Pairs | IdentityBalanced) -> None:
        with pytest.raises(ConfigError, match=r"with\.stream\.draw: AlignGAN compares images of several people"):
            made(stream=Stream(draw, height=48, width=24))


def test_pictures_are_there_and_back_again() -> None:
    method, given = made().eval(), batches()
    with torch.no_grad():
        grids = method.pictures(given)
    assert set(grids) == {"visible-to-infrared", "infrared-to-visible"}
    assert {tuple(grid.images.shape) for grid in grids.values()} == {(8, 3, 3, 48, 24)}
    forth, back = grids["visible-to-infrared"].images, grids["infrared-to-visible"].images
    assert not torch.allclose(forth[:, 0], forth[:, 1], atol=0.05)
    assert min(forth.min(), back.min()) >= 0
    assert max(forth.max(), back.max()) <= 1
    whole = given["pixel"].images
    with torch.no_grad():
        read = method.encoder.enlarged(method.encoder.translator(method.encoder.reduced(whole[:1])))
    torch.testing.assert_close(forth[0, 1], shown(read)[0].clamp(0, 1))


def test_parameters() -> None:
    with torch.device("meta"):
        method = AlignGAN(AlignGANConfig(), 395)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in method.named_children()}
    translator = 6_050_627
    assert sum(p.numel() for p in method.encoder.backbone.parameters()) == 23_508_032
    assert counts == {
        "encoder": 23_508_032 + translator,
        "to_visible": translator,
        "heads": 1_151_115,
        "visible": 11_155_392,
        "infrared": 11_155_392,
        "joint": 11_810_816,
    }
    assert method.encoder.small == (128, 128)
    assert method.encoder.dim == 2048


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 0}, "width must be at least 1"),
        ({"cycle": -1}, "cycle must be a finite number of at least 0"),
        ({"pixel_epochs": -1}, "pixel_epochs must be a finite number of at least 0"),
        ({"pixel_identities": 3}, "pixel_identities must be an even number of at least 2"),
        ({"reduction": [0.5, 1]}, "reduction must be two finite numbers of at least 1"),
        ({"dropout": 1}, "dropout must be at least 0 and below 1"),
    ],
)
def test_impossible_numbers_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(AlignGANConfig, values, where="with")


@pytest.mark.parametrize("benchmark", ["sysu_mm01", "regdb"])
def test_files(benchmark: str) -> None:
    found = {name: pair for name, pair in systems(benchmark).items() if name.split("/")[0] == "aligngan"}
    experiments = {name: ablation.experiment(row, benchmark) for name, (ablation, row) in found.items()}
    assert {name: one.options for name, one in experiments.items()} == {
        "aligngan/without-task": AlignGANConfig(task=0.0),
        "aligngan/without-feature-alignment": AlignGANConfig(alignment=0.0),
        "aligngan": AlignGANConfig(),
    }
    assert (experiments["aligngan"].train.epochs, experiments["aligngan"].train.steps_per_epoch) == (251, 100)
