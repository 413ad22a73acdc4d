import numpy as np
import pytest

from visir.core.draws import Augment
from visir.core.errors import ConfigError
from visir.data.transforms import FILL, check, draw_changes

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(1, 256, (12, 8, 3), np.uint8)
NOTHING = Augment(flip=0.0)


def changed(augment, count=200, modality=0, step=0, picture=PICTURE):
    kinds = np.full(count, modality, np.int64)
    changes = draw_changes(augment, kinds, *picture.shape[:2], seed=4, step=step)
    out = np.full((count, *picture.shape), 77, np.uint8)
    for place in range(count):
        changes.apply(place, picture, out[place])
    return changes, out


def test_nothing_asked_nothing_done():
    _, out = changed(NOTHING)
    assert (out == PICTURE).all()


def test_flip_mirrors_its_share():
    changes, out = changed(Augment(flip=0.5))
    assert 70 < changes.flip.sum() < 130
    for flipped, picture in zip(changes.flip, out, strict=True):
        assert np.array_equal(picture, PICTURE[:, ::-1] if flipped else PICTURE)
    assert changed(Augment(flip=1.0))[0].flip.all()


@pytest.mark.parametrize("pad", [1, 3, 9, 30])
def test_pad_and_crop_equals_the_plain_way(pad):
    changes, out = changed(Augment(flip=0.0, pad=pad))
    padded = np.pad(PICTURE, ((pad, pad), (pad, pad), (0, 0)))
    assert changes.shift.min() >= 0
    assert changes.shift.max() <= 2 * pad
    for (top, left), picture in zip(changes.shift, out, strict=True):
        assert np.array_equal(picture, padded[top : top + 12, left : left + 8])


@pytest.mark.parametrize("pad", [1, 9])
def test_the_border_may_repeat_the_edge(pad):
    changes, out = changed(Augment(flip=0.0, pad=pad, border="edge"))
    for (top, left), picture in zip(changes.shift, out, strict=True):
        for y in range(12):
            for x in range(8):
                inside = PICTURE[min(max(y + top - pad, 0), 11), min(max(x + left - pad, 0), 7)]
                assert np.array_equal(picture[y, x], inside)


def test_a_larger_picture_is_cropped_to_size():
    augment = Augment(flip=0.5, enlarge=3, pad=1)
    changes = draw_changes(augment, np.zeros(300, np.int64), 9, 5, seed=4, step=0)
    assert set(changes.shift.flatten().tolist()) == {0, 1, 2, 3, 4, 5}
    for place, (top, left) in enumerate(changes.shift):
        out = np.empty((9, 5, 3), np.uint8)
        changes.apply(place, PICTURE, out)
        seen = PICTURE[:, ::-1] if changes.flip[place] else PICTURE
        assert np.array_equal(out, np.pad(seen, ((1, 1), (1, 1), (0, 0)))[top : top + 9, left : left + 5])


def test_erasing_fills_one_box_with_the_mean_colour():
    changes, out = changed(Augment(flip=0.0, erase=0.5))
    hit = changes.box[:, 2] > 0
    assert 70 < hit.sum() < 130
    for (top, left, height, width), picture in zip(changes.box, out, strict=True):
        assert 0 <= top <= 12 - height
        assert 0 <= left <= 8 - width
        expected = PICTURE.copy()
        for y in range(top, top + height):
            for x in range(left, left + width):
                expected[y, x] = FILL
        assert np.array_equal(picture, expected)
    share = changes.box[hit, 2] * changes.box[hit, 3] / 96
    assert share.max() < 0.5


def test_one_channel_is_replicated_in_visible_pictures_only():
    changes, out = changed(Augment(flip=0.0, channels=1.0))
    assert set(changes.channel.tolist()) == {0, 1, 2}
    for channel, picture in zip(changes.channel, out, strict=True):
        assert np.array_equal(picture, np.repeat(PICTURE[:, :, channel, None], 3, axis=2))
    assert (changed(Augment(flip=0.0, channels=1.0), modality=1)[1] == PICTURE).all()


def test_visible_pictures_turn_grey_in_their_share():
    changes, out = changed(Augment(flip=0.0, grey=0.5))
    assert 70 < (changes.channel == 3).sum() < 130
    luma = (PICTURE @ np.array([0.299, 0.587, 0.114]))[:, :, None]
    for channel, picture in zip(changes.channel, out, strict=True):
        assert np.abs(picture - (luma if channel == 3 else PICTURE)).max() <= 0.5 + 1e-2
        assert channel != 3 or (picture == picture[:, :, :1]).all()
    assert (changed(Augment(flip=0.0, grey=1.0), modality=1)[1] == PICTURE).all()


def test_grey_is_for_pictures_that_keep_their_channels_and_changes_no_other_draw():
    both, _ = changed(Augment(channels=0.5, grey=1.0))
    alone, _ = changed(Augment(channels=0.5))
    assert set(both.channel.tolist()) == {0, 1, 2, 3}
    assert np.array_equal(both.channel[both.channel < 3], alone.channel[alone.channel >= 0])
    for name in ("flip", "shift", "box", "light"):
        assert np.array_equal(getattr(both, name), getattr(alone, name))


def test_jitter_scales_brightness_then_contrast():
    changes, out = changed(Augment(flip=0.0, jitter=0.4), count=50)
    assert changes.light.min() >= 0.6
    assert changes.light.max() <= 1.4
    grey = (PICTURE.mean((0, 1)) * [0.299, 0.587, 0.114]).sum()
    for (brightness, contrast), picture in zip(changes.light, out, strict=True):
        expected = (PICTURE * brightness - brightness * grey) * contrast + brightness * grey
        assert np.abs(picture - expected.clip(0, 255)).max() <= 0.5 + 1e-6


def test_draws_depend_on_step_and_place_alone():
    everything = Augment(0.5, 2, 0.5, 0.5, 0.3)
    first, again, later = changed(everything)[1], changed(everything)[1], changed(everything, step=1)[1]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, later)
    assert len({picture.tobytes() for picture in first}) > 150


def test_the_picture_itself_is_never_written_to():
    frozen = PICTURE.copy()
    frozen.flags.writeable = False
    changed(Augment(0.5, 2, 0.5, 0.5, 0.3), picture=frozen)


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        (Augment(flip=1.5), r"stream\.augment\.flip: expected a number from 0 to 1, got 1\.5"),
        (Augment(erase=-0.1), r"stream\.augment\.erase"),
        (Augment(grey=1.1), r"stream\.augment\.grey"),
        (Augment(enlarge=-2), r"stream\.augment\.enlarge: expected 0 or more pixels, got -2"),
        (Augment(pad=-1), r"stream\.augment\.pad: expected 0 or more pixels, got -1"),
    ],
)
def test_numbers_out_of_range_are_told(augment, words):
    with pytest.raises(ConfigError, match=words):
        check(augment)
