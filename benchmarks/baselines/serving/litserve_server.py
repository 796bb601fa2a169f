"""LitServe: an API that takes an image as base64 in JSON."""

import argparse
import base64
import io
from typing import Any

import litserve
from PIL import Image

from benchmarks.baselines.serving.resnet18 import load_classifier


class ResNet18(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002 - so LitServe calls it
        self.classifier = load_classifier()

    def decode_request(self, request: dict[str, str]) -> Image.Image:
        return Image.open(io.BytesIO(base64.b64decode(request["image"])))

    def predict(self, x: Image.Image) -> list[float]:
        return self.classifier.classify_image(x)

    def encode_response(self, output: list[float]) -> dict[str, Any]:
        return {"probabilities": output}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    server = litserve.LitServer(ResNet18(), accelerator="cpu")
    server.run(port=parser.parse_args().port, host="127.0.0.1", generate_client_file=False)
