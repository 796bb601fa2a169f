"""Calls of gRPC's own client, and the requests that they send."""

from typing import Any

import grpc
import numpy as np
import pytest

from slipway.serving.grpc.messages import ModelInferRequest

INFERENCE = "/inference.GRPCInferenceService/"
WAIT_SECONDS = 20


def call(channel: grpc.Channel, method: str, request: Any = b"", answer_type: Any = None, **options: Any) -> Any:
    """The answer to a request, or to the bytes of one, as an `answer_type`, or else its bytes."""
    body = request if isinstance(request, bytes) else request.SerializeToString()
    path = method if method.startswith("/") else INFERENCE + method
    answer = channel.unary_unary(path)(body, timeout=options.pop("timeout", WAIT_SECONDS), **options)
    return answer if answer_type is None else answer_type.FromString(answer)


def refusal(channel: grpc.Channel, method: str, request: Any = b"", **options: Any) -> tuple[grpc.StatusCode, str]:
    """What a request that is refused is told."""
    with pytest.raises(grpc.RpcError) as error:
        call(channel, method, request, **options)
    return error.value.code(), error.value.details()


def image_request(pixels: np.ndarray, *, raw: bool = True, **fields: Any) -> Any:
    """A request for the image model, whose pixels stand in it as bytes, or else as a list of numbers."""
    request = ModelInferRequest(model_name="model", **fields)
    tensor = request.inputs.add(name="image", datatype="UINT8", shape=pixels.shape)
    if raw:
        request.raw_input_contents.append(pixels.tobytes())
    else:
        tensor.contents.uint_contents.extend(pixels.ravel().tolist())
    return request
