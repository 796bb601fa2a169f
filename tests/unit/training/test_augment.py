import numpy as np
import pytest
import torch

from slipway.tasks.image_classification.augment import crop_and_flip, cut_out, jitter_color


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (300, 6, 5, 3), dtype=np.uint8))


def windows(image, padding, *, flip):
    """Every image that a crop of the reflect-padded image, mirrored or not, can give."""
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
    height, width, _ = image.shape
    offsets = range(2 * padding + 1)
    crops = [padded[y : y + height, x : x + width] for y in offsets for x in offsets]
    return {crop.tobytes() for crop in crops} | ({crop[:, ::-1].tobytes() for crop in crops} if flip else set())


@pytest.mark.parametrize(("padding", "flip"), [(0, True), (1, False), (2, True)])
def test_each_image_becomes_a_window_of_its_reflected_self_and_all_windows_occur(images, padding, flip):
    same = images[:1].expand(300, -1, -1, -1).contiguous()
    changed = crop_and_flip(same, padding, flip=flip, generator=generator())
    assert {image.tobytes() for image in changed.numpy()} == windows(same[0].numpy(), padding, flip=flip)
    for before, after in zip(
        images.numpy(), crop_and_flip(images, padding, flip=flip, generator=generator()).numpy(), strict=True
    ):
        assert after.tobytes() in windows(before, padding, flip=flip)


def test_padding_larger_than_the_image_is_cut_to_what_reflection_allows(images):
    assert crop_and_flip(images, 50, flip=False, generator=generator()).shape == images.shape


def test_cutout_blanks_a_square_that_the_border_may_cut(images):
    white = torch.full_like(images, 255)
    white[0] = 0
    holes = (cut_out(white, 3, generator())[1:] != 255).all(3)
    sizes = holes.sum((1, 2))
    assert sizes.max() == 9
    assert sizes.min() >= 4
    assert holes.any(0).all()


def test_colour_jitter_keeps_the_type_and_changes_every_image_by_its_own_factor(images):
    grey = torch.full_like(images, 100)
    means = jitter_color(grey, 0.5, generator()).float().mean((1, 2, 3))
    assert jitter_color(images, 0.5, generator()).dtype is torch.uint8
    assert 50 <= means.min() < 60
    assert 140 < means.max() <= 150


def test_the_same_generator_gives_the_same_batch_and_zero_strength_changes_nothing(images):
    for change in (
        lambda seed: crop_and_flip(images, 2, flip=True, generator=generator(seed)),
        lambda seed: cut_out(images, 2, generator(seed)),
        lambda seed: jitter_color(images, 0.3, generator(seed)),
    ):
        assert torch.equal(change(1), change(1))
        assert not torch.equal(change(1), change(2))
    assert crop_and_flip(images, 0, flip=False, generator=generator()) is images
    assert cut_out(images, 0, generator()) is images
    assert jitter_color(images, 0.0, generator()) is images
