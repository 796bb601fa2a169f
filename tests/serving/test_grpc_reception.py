"""Messages over gRPC that are on their way: bounded all together, as bodies over HTTP are, and nobody is kept out for long."""

import grpc
import numpy as np
import pytest

from slipway.export.bundle import Bundle
from slipway.serving.grpc.messages import (
    HealthCheckRequest,
    HealthCheckResponse,
    ModelInferRequest,
    ModelInferResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    ServerReadyResponse,
)
from tests.serving.conftest import StartPredictor
from tests.serving.predictor import Predictor
from tests.serving.raw_calls import RawCalls

INFER = "/inference.GRPCInferenceService/ModelInfer"
READY = "/inference.GRPCInferenceService/ModelReady"
MESSAGE_BYTES = 1_000_000
WINDOW_BYTES = 256 * 1024
"""Of each message that waits."""
NUM_PLACES = 20
LIMITS = ("--grpc-port", "0", "--max-body-bytes", str(2**20), "--max-receiving-bytes", str(NUM_PLACES * 2**20))
NUM_PROBE_PLACES = 2
NUM_CALLS = 64
WAIT_SECONDS = 20


@pytest.fixture(scope="module")
def patient(start_for_module: StartPredictor, image_bundle) -> Predictor:
    return start_for_module(image_bundle.root, *LIMITS)


def ask(predictor: Predictor, bundle: Bundle) -> list[float]:
    pixels = bundle.golden[0].inputs["image"]
    request = ModelInferRequest(model_name="model", raw_input_contents=[pixels.tobytes()])
    request.inputs.add(name="image", datatype="UINT8", shape=pixels.shape)
    with grpc.insecure_channel(f"127.0.0.1:{predictor.grpc_port}") as channel:
        answer = channel.unary_unary(INFER)(request.SerializeToString(), timeout=WAIT_SECONDS)
    return np.frombuffer(ModelInferResponse.FromString(answer).raw_output_contents[0], "<f4").tolist()


def test_messages_on_their_way_are_bounded_all_together_and_each_has_its_turn(patient, image_bundle):
    before = patient.memory_bytes
    with RawCalls(patient.grpc_port) as raw:
        for _ in range(NUM_CALLS):
            raw.open(INFER, MESSAGE_BYTES)
        raw.send_until(lambda: raw.num_sent >= NUM_PLACES * MESSAGE_BYTES, keep_back=1)
        raw.send_for(1.0, keep_back=1)
        assert raw.num_sent <= NUM_PLACES * MESSAGE_BYTES + NUM_CALLS * WINDOW_BYTES
        assert patient.memory_bytes - before < NUM_CALLS * MESSAGE_BYTES
        assert not [call for call in raw.calls if call.has_ended]
        raw.send_until(lambda: all(call.has_ended for call in raw.calls))
        assert raw.num_sent == NUM_CALLS * (MESSAGE_BYTES + 5)
    assert ask(patient, image_bundle) == pytest.approx(image_bundle.golden[0].outputs["probabilities"][0], abs=1e-5)


def test_probes_are_answered_while_messages_wait_for_a_place(patient):
    probes = {
        "/inference.GRPCInferenceService/ServerReady": (b"", ServerReadyResponse, "ready"),
        READY: (ModelReadyRequest(name="model").SerializeToString(), ModelReadyResponse, "ready"),
        "/grpc.health.v1.Health/Check": (HealthCheckRequest().SerializeToString(), HealthCheckResponse, "status"),
    }
    with RawCalls(patient.grpc_port) as raw, grpc.insecure_channel(f"127.0.0.1:{patient.grpc_port}") as channel:
        for _ in range(NUM_CALLS):
            raw.open(INFER, MESSAGE_BYTES)
        raw.send_until(lambda: raw.num_sent >= NUM_PLACES * MESSAGE_BYTES, keep_back=1)
        for path, (message, answer_type, field) in probes.items():
            answer = answer_type.FromString(channel.unary_unary(path)(message, timeout=WAIT_SECONDS))
            assert getattr(answer, field) in (True, 1), path


def test_messages_of_probes_which_need_no_token_keep_nobody_out_and_are_bounded_too(patient, image_bundle):
    with RawCalls(patient.grpc_port) as raw:
        for _ in range(NUM_CALLS):
            raw.open(READY, MESSAGE_BYTES)
        raw.send_until(lambda: raw.num_sent >= NUM_PROBE_PLACES * MESSAGE_BYTES, keep_back=1)
        raw.send_for(1.0, keep_back=1)
        assert raw.num_sent <= NUM_PROBE_PLACES * MESSAGE_BYTES + NUM_CALLS * WINDOW_BYTES
        assert len(ask(patient, image_bundle)) == 3


def test_a_message_that_stops_leaves_its_place_to_others(start: StartPredictor, image_bundle):
    hasty = start(image_bundle.root, *LIMITS, "--body-seconds", "0.5")
    with RawCalls(hasty.grpc_port) as raw:
        for _ in range(NUM_PLACES):
            raw.open(INFER, MESSAGE_BYTES)
        raw.send_until(lambda: raw.num_sent >= NUM_PLACES * MESSAGE_BYTES, keep_back=1)
        assert len(ask(hasty, image_bundle)) == 3
        raw.send_until(lambda: all(call.has_ended for call in raw.calls), keep_back=1)
    assert "Traceback" not in hasty.log


def test_a_client_that_goes_away_in_the_middle_leaves_its_place_to_others(start: StartPredictor, image_bundle):
    predictor = start(image_bundle.root, *LIMITS, "--body-seconds", "600", "--deadline-seconds", "600")
    with RawCalls(predictor.grpc_port) as raw:
        for _ in range(NUM_CALLS):
            raw.open(INFER, MESSAGE_BYTES)
        raw.send_until(lambda: raw.num_sent >= NUM_PLACES * MESSAGE_BYTES, keep_back=1)
    assert len(ask(predictor, image_bundle)) == 3
    assert "Traceback" not in predictor.log
