"""The terms of DG-Net: who exchanges with whom, what learns from which term, and whose name made pictures bear."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from dgnet_small import OFFICIAL, SMALL, STRUCTURE, all_terms, exchanged, groups, made, parts, reached
from one_rank import OneRank
from torch import Tensor

from visir.core.batch import Batch
from visir.losses.adversarial import discriminator_loss, generator_loss, gradient_penalty
from visir.losses.identity import identity_loss
from visir.losses.reconstruction import absolute_error
from visir.losses.teaching import mean_softmax, teaching_loss
from visir.methods._partners import partners
from visir.methods.dgnet import DGNetConfig
from visir.nets.dgnet import appearance_code
from visir.nets.frozen import frozen

MAKING = {"structure", "generator"}


class TestWhatLearnsFromWhat:
    """Fails as soon as a detach is moved."""

    @pytest.mark.parametrize("tunes", [False, True])
    def test_identity_from_appearance(self, tunes: bool) -> None:
        method, exchange = exchanged(OFFICIAL, tunes=tunes)
        found = {name: reached(method, term) for name, term in all_terms(method, exchange).items()}
        assert found == {
            "discriminator": {"discriminator"},
            "penalty": {"discriminator"},
            "simple": MAKING,
            "cross": MAKING,
            "adversarial": MAKING | {"discriminator"},  # which is not among the minimised
            "real_identity": {"appearance", "heads"},
            "teaching": {"appearance", "heads"},
            "fine": {"appearance", "heads"},
            "made_identity": MAKING,
            "structure_code": {"structure"} if tunes else MAKING,
            "appearance_code": MAKING,
            "cycle": MAKING,
        }
        assert not exchange.appearance.requires_grad

    @pytest.mark.parametrize("tunes", [False, True])
    def test_identity_from_structure(self, tunes: bool) -> None:
        method, exchange = exchanged(STRUCTURE, tunes=tunes)
        found = {name: reached(method, term) for name, term in all_terms(method, exchange).items()}
        making = MAKING | {"appearance"}  # the generator's gradient is all that the appearance encoder has
        assert found == {
            "discriminator": {"discriminator"},
            "penalty": {"discriminator"},
            "simple": making,
            "cross": making,
            "adversarial": making | {"discriminator"},
            "real_identity": {"structure", "heads"},
            "teaching": {"structure", "heads"},
            "made_identity": making,
            "structure_code": {"structure"} if tunes else making,
            "appearance_code": making,
            "cycle": making,
        }

    @pytest.mark.parametrize("tunes", [False, True])
    def test_what_frozen_encoders_find(self, tunes: bool) -> None:
        """Of made pictures that are given, encoders learn only in the steps that are for it; the pictures do else."""
        method, exchange = exchanged(OFFICIAL, tunes=tunes)
        given = exchange.swapped.detach().requires_grad_()
        terms = method._found_again(dataclasses.replace(exchange, swapped=given), 1.0, 1.0)
        found = {}
        for name, term in terms.items():
            gradient = torch.autograd.grad(term, given, retain_graph=True, allow_unused=True)[0]
            found[name] = reached(method, term), gradient is not None and bool(gradient.abs().sum() > 0)
        assert found == {
            "made_identity": (set(), True),
            "appearance_code": (set(), True),
            "structure_code": ({"structure"}, False) if tunes else (set(), True),
            "cycle": (MAKING, False) if tunes else ({"generator"}, True),  # through the structure, not the appearance
        }

    @pytest.mark.parametrize("config", [SMALL, STRUCTURE], ids=["appearance", "structure"])
    def test_codes_are_compared_with_what_stays(self, config: DGNetConfig) -> None:
        """The wanted codes get no gradient: it equals that of a comparison with constants."""
        method, exchange = exchanged(config, tunes=True)
        terms = method._recoded(exchange, appearance_code(frozen(method.appearance, exchange.swapped)), 1.0, 0.0)
        wanted_structure = exchange.structure.detach().clone()
        wanted_code = exchange.appearance.detach().clone()[exchange.partners.other]
        again = method.structure(exchange.swapped.detach())
        code = appearance_code(frozen(method.appearance, exchange.swapped))
        expected = {
            "structure_code": absolute_error(wanted_structure, again),
            "appearance_code": absolute_error(wanted_code, code),
        }
        found = [p for name in ("structure", "generator", "appearance") for p in parts(method)[name]]
        parameters = [parameter for parameter in found if parameter.requires_grad]
        for name, constant in expected.items():
            both = [
                torch.autograd.grad(t, parameters, retain_graph=True, allow_unused=True)
                for t in (terms[name], constant)
            ]
            for one, other in zip(*both, strict=True):
                assert (one is None) == (other is None)
                if one is not None:
                    torch.testing.assert_close(one, other)

    def test_frozen_encoders_and_teacher_keep_their_statistics(self) -> None:
        method, exchange = exchanged(OFFICIAL)
        before = {name: buffer.clone() for name, buffer in method.named_buffers()}
        method._found_again(exchange, 1.0, 1.0)
        method._taught(exchange.swapped)
        assert all(torch.equal(buffer, before[name]) for name, buffer in method.named_buffers())
        method._recognised(exchange, 0.0)
        moved = {name for name, buffer in method.named_buffers() if not torch.equal(buffer, before[name])}
        assert moved
        assert all(name.startswith("encoder.") for name in moved)

    def test_clean_pictures_count_in_the_statistics_of_the_search(self) -> None:
        method = made(SMALL)
        before = method.encoder.backbone.trunk.bn1.running_mean.clone()
        method._exchange(groups(), OneRank())
        assert not torch.equal(method.encoder.backbone.trunk.bn1.running_mean, before)


class TestWhoExchangesWithWhom:
    @pytest.mark.parametrize("images", [2, 3])
    def test_partners(self, images: int) -> None:
        batch, half = groups(images), 4 * images
        crossing = torch.rand(half // 2, generator=torch.Generator().manual_seed(1)) < 0.5
        found = partners(half, images, crossing)
        place = torch.arange(2 * half)
        assert (found.same != place).all()
        assert torch.equal(batch.identity[found.same], batch.identity)
        assert torch.equal(batch.modality[found.same], batch.modality)
        assert torch.equal(found.same.sort().values, place)
        assert (batch.identity[found.other] != batch.identity).all()
        assert torch.equal(found.other[found.other], place)
        crosses = batch.modality[found.other] != batch.modality
        assert crosses.sum() == 4 * crossing.sum()

    @pytest.mark.parametrize(("chance", "share"), [(0.0, 0.0), (1.0, 1.0)])
    def test_chance_of_the_other_modality(self, chance: float, share: float) -> None:
        _, exchange = exchanged(dataclasses.replace(SMALL, other_modality=chance))
        crosses = groups().modality[exchange.partners.other] != groups().modality
        assert crosses.double().mean() == share

    def test_pictures_are_made_of_these_codes(self) -> None:
        method, exchange = exchanged(SMALL)
        images, other = groups().images, exchange.partners.other
        code = appearance_code(copy.deepcopy(method.appearance)(images))
        structure = method.structure(images)
        for picture, appearance in (
            (exchange.own, code),
            (exchange.same, code[exchange.partners.same]),
            (exchange.swapped, code[other]),
        ):
            torch.testing.assert_close(picture, method.generator(appearance, structure))

    def test_drawn_for_the_batch_of_all_ranks(self) -> None:
        """Each of two ranks draws for both and takes its part: people 0 and 1, or people 2 and 3."""

        @dataclasses.dataclass
        class OneOfTwo(OneRank):
            rank: int = 0

            def gather(self, tensor: Tensor) -> Tensor:
                return torch.cat([tensor, tensor])

            def share(self, tensor: Tensor) -> Tensor:
                return tensor.chunk(2)[self.rank]

        method, batch = made(SMALL), groups()
        whole = method._exchange(batch, OneRank(seed=4))
        for rank in range(2):
            rows = torch.arange(4 * rank, 4 * rank + 4).repeat(2) + torch.tensor([0, 8]).repeat_interleave(4)
            mine = Batch(batch.images[rows], batch.identity[rows], batch.camera[rows], batch.modality[rows])
            part = method._exchange(mine, OneOfTwo(seed=4, rank=rank))
            assert torch.equal(part.boxes, whole.boxes[rows])
            assert part.tunes == whole.tunes
            assert torch.equal(rows[part.partners.other], whole.partners.other[rows])


class TestTerms:
    def test_made_pictures_count_as_whom_their_appearance_comes_from(self) -> None:
        method, exchange = exchanged(SMALL)
        logits = copy.deepcopy(method.classifier)(copy.deepcopy(method)._feature(exchange.swapped).prime)
        giver = exchange.identity[exchange.partners.other]
        found = method._found_again(exchange, 0.0, 0.0)
        assert set(found) == {"made_identity"}
        torch.testing.assert_close(found["made_identity"], 0.5 * identity_loss(logits, giver))
        assert (found["made_identity"] - 0.5 * identity_loss(logits, exchange.identity)).abs() > 1e-6

    def test_read_from_structure_they_count_as_whom_their_structure_comes_from(self) -> None:
        method, exchange = exchanged(STRUCTURE)
        logits = copy.deepcopy(method.classifier)(method._feature(exchange.swapped).prime)
        found = method._found_again(exchange, 0.0, 0.0)["made_identity"]
        torch.testing.assert_close(found, 0.5 * identity_loss(logits, exchange.identity))
        assert (found - 0.5 * identity_loss(logits, exchange.identity[exchange.partners.other])).abs() > 1e-6

    @pytest.mark.parametrize("config", [SMALL, STRUCTURE], ids=["appearance", "structure"])
    def test_real_pictures_count_twice_where_they_are_partly_erased(self, config: DGNetConfig) -> None:
        method, exchange = exchanged(dataclasses.replace(config, erase=1.0))
        copied, images = copy.deepcopy(method), groups().images
        for image, (top, left, bottom, right) in zip(images, exchange.boxes.tolist(), strict=True):
            image[:, top:bottom, left:right] = 0
        named = identity_loss(copied.classifier(copied._feature(images).prime), exchange.identity)
        terms = method._recognised(exchange, 0.0)
        assert set(terms) == {"real_identity"}
        torch.testing.assert_close(terms["real_identity"], 2 * named)

    @pytest.mark.parametrize("config", [SMALL, STRUCTURE], ids=["appearance", "structure"])
    def test_teacher_is_believed_about_made_pictures(self, config: DGNetConfig) -> None:
        method, exchange = exchanged(config)
        copied = copy.deepcopy(method)
        copied._recognised(exchange, 0.0)  # real pictures first: they move the statistics
        logits = copied.classifier(copied._feature(exchange.swapped).prime)
        expected = 2.0 * teaching_loss(logits, method._taught(exchange.swapped))
        torch.testing.assert_close(method._recognised(exchange, 2.0)["teaching"], expected)

    def test_second_head_learns_the_structure_giver_and_real_people(self) -> None:
        method, exchange = exchanged(dataclasses.replace(OFFICIAL, erase=0.0))
        terms = method._recognised(exchange, 2.0)
        copied, named = copy.deepcopy(method), []
        for images in (exchange.swapped, exchange.images):
            fine = copied._feature(images).fine
            assert fine is not None
            named.append(identity_loss(copied.fine_classifier(fine), exchange.identity))
        torch.testing.assert_close(terms["fine"], 0.2 * 2.0 * (named[0] + named[1]))

    def test_teacher_judges_pictures_and_their_mirror_images_by_this_batch(self) -> None:
        method, exchange = exchanged(dataclasses.replace(SMALL, dropout=0.5))
        copied = copy.deepcopy(method.teacher)
        assert copied is not None
        copied.classifier.eval()  # drops nothing, while its batch normalisation trains
        views = (exchange.swapped, exchange.swapped.flip(3))
        expected = mean_softmax([copied.classifier(copied.read(view)) for view in views])
        torch.testing.assert_close(method._taught(exchange.swapped), expected.detach())
        assert not method._taught(exchange.swapped.detach()).requires_grad

    def test_only_the_identity_of_real_pictures_sees_them_erased(self) -> None:
        """All else is the same, whatever is erased."""
        never, exchange = exchanged(dataclasses.replace(OFFICIAL, erase=0.0))
        everywhere = dataclasses.replace(exchange, boxes=torch.tensor([[0, 0, 25, 12]]).expand(16, 4))
        terms = [all_terms(copy.deepcopy(never), one) for one in (exchange, everywhere)]
        differ = {name for name in terms[0] if not torch.equal(terms[0][name], terms[1][name])}
        assert differ == {"real_identity", "fine"}

    def test_pictures_made_of_found_codes(self) -> None:
        method, exchange = exchanged(OFFICIAL)
        found = appearance_code(frozen(method.appearance, exchange.swapped))
        again = method.generator(found[exchange.partners.other], method.structure(exchange.swapped))
        expected = 2.0 * absolute_error(exchange.images, again)
        torch.testing.assert_close(method._found_again(exchange, 0.0, 2.0)["cycle"], expected)

    def test_worked_examples(self) -> None:
        config = DGNetConfig()
        half = torch.tensor([[0.5, -0.5, 0.0, 1.0]]), torch.tensor([[0.25, -0.5, 0.5, 0.5]])
        assert absolute_error(*half).item() == pytest.approx(0.3125)
        real = identity_loss(torch.tensor([[0.8, 0.2]]).log(), torch.tensor([0]))
        fake = identity_loss(torch.tensor([[0.4, 0.6]]).log(), torch.tensor([1]))
        assert (real + config.made_identity * fake).item() == pytest.approx(0.478556, abs=1e-6)
        genuine, made_up = [torch.tensor([0.8])] * 3, [torch.tensor([0.3])] * 3
        assert discriminator_loss(genuine, made_up).item() == pytest.approx(0.39)
        assert generator_loss(made_up).item() == pytest.approx(1.47)
        assert config.adversarial * generator_loss(made_up).item() == pytest.approx(2.94)
        images = torch.tensor([[0.3, -2.0]], requires_grad=True)
        scores = images @ torch.tensor([[1.0], [2.0]])
        assert config.penalty * gradient_penalty(scores, images).item() == pytest.approx(0.05)

    def test_reconstruction_and_adversarial_weights(self) -> None:
        method, exchange = exchanged(SMALL)
        terms = method._painted(exchange)
        torch.testing.assert_close(terms["simple"], 5 * absolute_error(exchange.images, exchange.own))
        torch.testing.assert_close(terms["cross"], 5 * absolute_error(exchange.images, exchange.same))
        torch.testing.assert_close(terms["adversarial"], 2 * generator_loss(method.discriminator(exchange.swapped)))

    def test_discriminator_compares_real_pictures_with_those_of_other_people(self) -> None:
        method, exchange = exchanged(SMALL)
        terms = method._judge(exchange)
        real = exchange.images.clone().requires_grad_()
        scores = method.discriminator(real)
        wanted = discriminator_loss(scores, method.discriminator(exchange.swapped))
        torch.testing.assert_close(terms["discriminator"], wanted)
        torch.testing.assert_close(terms["penalty"], 0.01 * gradient_penalty(scores, real))
        assert not exchange.images.requires_grad

    @pytest.mark.parametrize("config", [OFFICIAL, STRUCTURE], ids=["appearance", "structure"])
    def test_terms_are_computed_in_full_precision(self, config: DGNetConfig) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            method, exchange = exchanged(config)
            terms = all_terms(method, exchange)
        assert {term.dtype for term in terms.values()} == {torch.float32}
        assert all(torch.isfinite(term) for term in terms.values())
