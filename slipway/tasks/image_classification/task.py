"""Image classification, the half that needs no torch."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.data.dataset import Dataset
from slipway.data.manifest import Feature, Manifest, Split
from slipway.errors import DataError
from slipway.export.signature import Signature, TensorSpec
from slipway.tasks.classification import ClassificationTask, gather_rows
from slipway.tasks.task import Task

INPUT = "image"
"""Name of the bundle's input: uint8 [samples, height, width, channels]."""
_SHOWN_PIXELS = 128


class ImageClassification(ClassificationTask):
    """One image in, one class out."""

    name = "image-classification"
    default_architecture = "simple-cnn"

    def signature(self, manifest: Manifest) -> Signature:
        """Images of any height and width, with the data set's number of channels."""
        channels = _image_feature(manifest).shape[2]
        return Signature(
            inputs=(TensorSpec(name=INPUT, dtype="uint8", shape=(None, None, None, channels)),),
            outputs=(self.output_spec(manifest),),
        )

    def read_inputs(self, dataset: Dataset, split: Split, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """`image`: uint8 [rows, height, width, channels]."""
        return {INPUT: gather_rows(dataset.read_parts(split, _image_feature(dataset.manifest).name), rows)}

    def show_samples(self, dataset: Dataset, split: Split, rows: NDArray[np.int64]) -> list[tuple[bytes | None, dict[str, str]]]:
        """Each image as a PNG."""
        return [(encode_png(image), {}) for image in self.read_inputs(dataset, split, rows)[INPUT]]


TASK: Task = ImageClassification()


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """The image [height, width, channels] as a PNG of about 128 pixels; small ones grow by whole pixels and stay sharp."""
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    longest = max(picture.size)
    if longest < _SHOWN_PIXELS:
        factor = _SHOWN_PIXELS // longest
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    else:
        picture.thumbnail((_SHOWN_PIXELS, _SHOWN_PIXELS), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _image_feature(manifest: Manifest) -> Feature:
    images = [feature for feature in manifest.features if feature.role == "image"]
    if len(images) != 1:
        raise DataError(
            f"Data set {manifest.dataset_id} has {len(images)} image features; image classification takes exactly one. "
            "Prepare it from a source of images."
        )
    return images[0]
