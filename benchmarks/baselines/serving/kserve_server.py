"""The KServe SDK's model server with a custom model."""

import argparse
from typing import Any

from kserve.utils.utils import generate_uuid

import kserve
from benchmarks.baselines.serving.resnet18 import load_classifier
from kserve import InferOutput, InferRequest, InferResponse, ModelServer


class ResNet18(kserve.Model):
    def load(self) -> bool:
        self.classifier = load_classifier()
        self.ready = True
        return self.ready

    def predict(self, payload: InferRequest, _headers: Any = None, _response_headers: Any = None) -> InferResponse:
        probabilities = self.classifier.classify_pixels(payload.inputs[0].as_numpy())
        output = InferOutput(name="probabilities", shape=list(probabilities.shape), datatype="FP32")
        output.set_data_from_numpy(probabilities, binary_data=False)
        return InferResponse(response_id=generate_uuid(), model_name=self.name, infer_outputs=[output])


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(parents=[kserve.model_server.parser]).parse_args()
    model = ResNet18("resnet18")
    model.load()
    ModelServer(http_port=arguments.http_port, enable_grpc=False).start([model])
