"""MLServer with a custom runtime. The folder that `mlserver start` reads is written by benchmarks.serving.servers."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.baselines.serving.resnet18 import load_classifier


class ResNet18(MLModel):
    async def load(self) -> bool:
        self.classifier = load_classifier()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        pixels = NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output(name="probabilities", payload=self.classifier.classify_pixels(pixels))
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])
