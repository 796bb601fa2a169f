"""Messages over gRPC that are on their way: bounded all together, as bodies over HTTP are, and nobody is kept out for long."""

import time

import grpc
import httpx
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
CHECK = "/grpc.health.v1.Health/Check"
MESSAGE_BYTES = 1_000_000
WINDOW_BYTES = 256 * 1024
"""Of each message that waits."""
NUM_PLACES = 20
LIMITS = ("--grpc-port", "0", "--max-body-bytes", str(2**20), "--max-receiving-bytes", str(NUM_PLACES * 2**20))
NUM_EACH = NUM_PLACES // 2
"""Places that one client may have."""
NUM_PROBE_PLACES = 4
"""The same for probes' messages."""
NUM_CALLS = 64
NUM_PROBES = 32
NUM_SILENT = 200
"""Probes that would hold up others for 50 s, if each had its second one after the other."""
WAIT_SECONDS = 20
OTHER, THIRD = "127.0.0.2", "127.0.0.3"
"""Further clients' addresses."""


@pytest.fixture(scope="module")
def patient(start_for_module: StartPredictor, image_bundle) -> Predictor:
    return start_for_module(image_bundle.root, *LIMITS, "--body-seconds", "600", "--deadline-seconds", "600")


def ask(predictor: Predictor, bundle: Bundle) -> list[float]:
    pixels = bundle.golden[0].inputs["image"]
    request = ModelInferRequest(model_name="model", raw_input_contents=[pixels.tobytes()])
    request.inputs.add(name="image", datatype="UINT8", shape=pixels.shape)
    with grpc.insecure_channel(f"127.0.0.1:{predictor.grpc_port}") as channel:
        answer = channel.unary_unary(INFER)(request.SerializeToString(), timeout=WAIT_SECONDS)
    return np.frombuffer(ModelInferResponse.FromString(answer).raw_output_contents[0], "<f4").tolist()


def check(predictor: Predictor) -> int:
    with grpc.insecure_channel(f"127.0.0.1:{predictor.grpc_port}") as channel:
        answer = channel.unary_unary(CHECK)(HealthCheckRequest().SerializeToString(), timeout=WAIT_SECONDS)
    status: int = HealthCheckResponse.FromString(answer).status
    return status


def test_messages_on_their_way_are_bounded_all_together_and_each_has_its_turn(patient, image_bundle):
    before = patient.memory_bytes
    with (
        RawCalls(patient.grpc_port) as one,
        RawCalls(patient.grpc_port, address=OTHER) as other,
        RawCalls(patient.grpc_port, address=THIRD) as third,
    ):
        clients = (one, other, third)
        for raw in clients:
            for _ in range(NUM_CALLS):
                raw.open(INFER, MESSAGE_BYTES)
        for raw in (one, other):
            raw.send_until(lambda raw=raw: raw.num_sent >= NUM_EACH * MESSAGE_BYTES, keep_back=1)
        for raw in clients:
            raw.send_for(1.0, keep_back=1)
        num_sent = sum(raw.num_sent for raw in clients)
        assert num_sent <= NUM_PLACES * MESSAGE_BYTES + len(clients) * NUM_CALLS * WINDOW_BYTES
        assert patient.memory_bytes - before < len(clients) * NUM_CALLS * MESSAGE_BYTES
        assert not [call for raw in clients for call in raw.calls if call.has_ended]
        deadline = time.monotonic() + WAIT_SECONDS
        while not all(call.has_ended for raw in clients for call in raw.calls):
            assert time.monotonic() < deadline
            for raw in clients:
                raw.send_for(0.02)
        assert [raw.num_sent for raw in clients] == [NUM_CALLS * (MESSAGE_BYTES + 5)] * len(clients)
    assert ask(patient, image_bundle) == pytest.approx(image_bundle.golden[0].outputs["probabilities"][0], abs=1e-5)


def test_probes_are_answered_while_messages_wait_for_a_place(patient):
    probes = {
        "/inference.GRPCInferenceService/ServerReady": (b"", ServerReadyResponse, "ready"),
        READY: (ModelReadyRequest(name="model").SerializeToString(), ModelReadyResponse, "ready"),
        CHECK: (HealthCheckRequest().SerializeToString(), HealthCheckResponse, "status"),
    }
    with RawCalls(patient.grpc_port) as raw, grpc.insecure_channel(f"127.0.0.1:{patient.grpc_port}") as channel:
        for _ in range(NUM_CALLS):
            raw.open(INFER, MESSAGE_BYTES)
        raw.send_until(lambda: raw.num_sent >= NUM_EACH * MESSAGE_BYTES, keep_back=1)
        for path, (message, answer_type, field) in probes.items():
            answer = answer_type.FromString(channel.unary_unary(path)(message, timeout=WAIT_SECONDS))
            assert getattr(answer, field) in (True, 1), path


def test_messages_of_probes_which_need_no_token_keep_nobody_out_and_are_bounded_too(patient, image_bundle):
    with RawCalls(patient.grpc_port) as raw:
        for _ in range(NUM_PROBES):
            raw.open(READY, MESSAGE_BYTES)
        raw.send_until(lambda: raw.num_sent >= NUM_PROBE_PLACES * MESSAGE_BYTES, keep_back=1)
        on_their_way = sum(call.num_sent for call in raw.calls if not call.has_ended)
        assert on_their_way <= NUM_PROBE_PLACES * MESSAGE_BYTES + NUM_PROBES * WINDOW_BYTES
        assert len(ask(patient, image_bundle)) == 3
        assert check(patient) == 1
        raw.send_until(lambda: all(call.has_ended for call in raw.calls), keep_back=1)


def test_very_many_silent_probes_keep_no_probe_of_their_own_client_out(patient):
    with RawCalls(patient.grpc_port) as raw:
        for _ in range(NUM_SILENT):
            raw.open(CHECK, MESSAGE_BYTES)
        raw.send_for(0.5, keep_back=MESSAGE_BYTES + 5)
        assert check(patient) == 1


def test_silent_calls_of_one_client_keep_no_other_client_out(patient, image_bundle):
    with RawCalls(patient.grpc_port, address=OTHER) as raw:
        for _ in range(NUM_CALLS):
            raw.open(INFER, MESSAGE_BYTES)
        raw.send_for(0.5, keep_back=MESSAGE_BYTES + 5)
        assert len(ask(patient, image_bundle)) == 3


def test_the_time_that_a_call_states_is_that_of_its_message_too(start: StartPredictor, image_bundle):
    hasty = start(image_bundle.root, *LIMITS, "--deadline-seconds", "0.5")
    with RawCalls(hasty.grpc_port) as raw:
        silent, patient_one = raw.open(INFER, MESSAGE_BYTES), raw.open(INFER, MESSAGE_BYTES, timeout="600S")
        raw.send_until(lambda: silent.has_ended, keep_back=1)
        raw.send_for(0.5, keep_back=1)
        assert not patient_one.has_ended
        assert 'slipway_rejections_total{reason="deadline"} 1.0' in httpx.get(f"{hasty.url}/metrics").text
        raw.send_until(lambda: patient_one.has_ended)


def test_a_message_that_stops_leaves_its_place_to_others(start: StartPredictor, image_bundle):
    hasty = start(image_bundle.root, *LIMITS, "--body-seconds", "0.5")
    with RawCalls(hasty.grpc_port) as raw:
        for _ in range(NUM_PLACES):
            raw.open(INFER, MESSAGE_BYTES)
        raw.send_until(lambda: raw.num_sent >= NUM_EACH * MESSAGE_BYTES, keep_back=1)
        assert len(ask(hasty, image_bundle)) == 3
        raw.send_until(lambda: all(call.has_ended for call in raw.calls), keep_back=1)
    assert "Traceback" not in hasty.log


def test_a_client_that_goes_away_in_the_middle_leaves_its_place_to_others(patient, image_bundle):
    with RawCalls(patient.grpc_port) as raw:
        for _ in range(NUM_CALLS):
            raw.open(INFER, MESSAGE_BYTES)
        raw.send_until(lambda: raw.num_sent >= NUM_EACH * MESSAGE_BYTES, keep_back=1)
    assert len(ask(patient, image_bundle)) == 3
    assert "Traceback" not in patient.log
