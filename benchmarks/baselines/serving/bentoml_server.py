"""BentoML: a service with one API that takes an image."""

import bentoml
from PIL.Image import Image

from benchmarks.baselines.serving.resnet18 import load_classifier


@bentoml.service
class ResNet18:
    def __init__(self) -> None:
        self.classifier = load_classifier()

    @bentoml.api
    def predict(self, image: Image) -> list[float]:
        return self.classifier.classify_image(image)
