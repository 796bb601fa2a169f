"""A model that costs next to nothing, in both forms: what is measured with it is the server."""

import json
from pathlib import Path

import numpy as np

from benchmarks.baselines.serving import WEIGHTS_NAME
from benchmarks.serving.network import NUM_IMAGES, Network
from slipway.export.bundle import MODEL_NAME
from tests.bundles import CLASS_NAMES, write_image_bundle


def prepare_mean_color(side: int, folder: Path) -> Network:
    """Classes by the mean colour of images of `side` pixels."""
    import onnx
    import torch
    from onnx import numpy_helper

    bundle_dir = folder / "bundle"
    write_image_bundle(bundle_dir)
    initializers = {entry.name: numpy_helper.to_array(entry) for entry in onnx.load(bundle_dir / MODEL_NAME).graph.initializer}
    weights = torch.from_numpy(initializers["weights"].T.copy())
    torch.save({"2.weight": weights, "2.bias": torch.zeros(len(CLASS_NAMES))}, folder / WEIGHTS_NAME)
    description = folder / "network.json"
    scale = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
    description.write_text(json.dumps({"architecture": "mean-color", "side": side, "class_names": CLASS_NAMES, **scale}))
    generator = np.random.default_rng(0)
    colors, noise = generator.integers(0, 236, (NUM_IMAGES, 1, 1, 3)), generator.integers(0, 20, (NUM_IMAGES, side, side, 3))
    return Network(bundle_dir=bundle_dir, description=description, images=(colors + noise).astype(np.uint8))
