"""FastAPI: an uploaded file, and tensors as JSON lists. Plain `def` routes, as its documentation advises for work that blocks."""

import io

import numpy as np
from fastapi import FastAPI, UploadFile
from PIL import Image
from pydantic import BaseModel

from benchmarks.baselines.serving.resnet18 import load_classifier

app = FastAPI()
classifier = load_classifier()


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class InferRequest(BaseModel):
    inputs: list[Tensor]


@app.post("/predict")
def predict(file: UploadFile) -> dict[str, list[float]]:
    image = Image.open(io.BytesIO(file.file.read()))
    return {"probabilities": classifier.classify_image(image)}


@app.post("/v2/models/resnet18/infer")
def infer(request: InferRequest) -> dict[str, list[list[float]]]:
    tensor = request.inputs[0]
    pixels = np.array(tensor.data, dtype=np.float32).reshape(tensor.shape)
    return {"probabilities": classifier.classify_pixels(pixels).tolist()}
