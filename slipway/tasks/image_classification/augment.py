"""Random changes to whole batches of images, on the batch's own device: no loop over images.

All take and give uint8 [samples, height, width, channels] and draw from the generator that they are handed, which lives on
that device.
"""

import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)


def crop_and_flip(images: Tensor, padding: int, *, flip: bool, generator: torch.Generator) -> Tensor:
    """Shift each image by up to `padding` pixels both ways, reflecting its border, and mirror half of them.

    Rows of pixels are copied whole, out of a track in which a window of every crop lies, straight and mirrored. A padding as
    large as the image is cut to what reflection allows.
    """
    if padding == 0 and not flip:
        return images
    num, height, width, channels = images.shape
    rows = _shifted(num, height, padding, images.device, generator)
    reach = min(padding, width - 1)
    starts = reach + torch.randint(-reach, reach + 1, (num, 1), device=images.device, generator=generator)
    if flip:
        mirrored = torch.rand((num, 1), device=images.device, generator=generator) < 0.5  # noqa: PLR2004
        starts = torch.where(mirrored, width - 1 + 2 * reach - starts, starts)
    turned = images.flip(2)
    # Along a row: the left border reflected, the image, the image back again, its left border once more.
    track = torch.cat((turned[:, :, width - 1 - reach : width - 1], images, turned[:, :, 1:], images[:, :, 1 : reach + 1]), 2)
    length = track.shape[2]
    windows = track.as_strided((num * height * length - width + 1, width * channels), (channels, 1))
    image_rows = torch.arange(num, device=images.device)[:, None] * height + rows
    return windows.index_select(0, (image_rows * length + starts).flatten()).view(images.shape)


def cut_out(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Blank a square of `side` pixels, centred anywhere in each image, with the batch's mean colour (DeVries & Taylor, 2017)."""
    if side == 0:
        return images
    num, height, width, _ = images.shape
    rows = _in_window(num, height, side, images.device, generator)
    columns = _in_window(num, width, side, images.device, generator)
    hole = (rows[:, :, None] & columns[:, None, :])[..., None]
    mean = images.float().mean((0, 1, 2)).round().to(images.dtype)
    return torch.where(hole, mean, images)


def jitter_color(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Scale each image's brightness, contrast and (of RGB) saturation by factors from 1 - strength to 1 + strength."""
    if strength == 0.0:
        return images
    num, channels = len(images), images.shape[3]
    factors = 1 + strength * (2 * torch.rand((3, num, 1, 1, 1), device=images.device, generator=generator) - 1)
    brightness, contrast, saturation = factors.unbind()
    changed = images.float() * brightness
    changed = torch.lerp(changed.mean((1, 2, 3), keepdim=True), changed, contrast)
    if channels == len(_LUMA):
        grey = (changed * torch.tensor(_LUMA, device=images.device)).sum(3, keepdim=True)
        changed = torch.lerp(grey, changed, saturation)
    return changed.clamp_(0, 255).round_().to(torch.uint8)


def _shifted(num: int, size: int, padding: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """For each image the source index of each target index along one axis [num, size], reflected at the borders."""
    reach = min(padding, size - 1)
    shift = torch.randint(-reach, reach + 1, (num, 1), device=device, generator=generator)
    index = (torch.arange(size, device=device) + shift).abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


def _in_window(num: int, size: int, side: int, device: torch.device, generator: torch.Generator) -> Tensor:
    centre = torch.randint(0, size, (num, 1), device=device, generator=generator)
    start = centre - side // 2
    index = torch.arange(size, device=device)
    return (index >= start) & (index < start + side)
