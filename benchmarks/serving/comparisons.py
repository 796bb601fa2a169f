"""The predictor beside each baseline, both under the same load by turns."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure
from benchmarks.machine import Watch
from benchmarks.pairs import Pair, play
from benchmarks.ratios import ratio_figure
from benchmarks.serving import servers
from benchmarks.serving.client import ask
from benchmarks.serving.contestants import Side, describe_turns, load_on, serve
from benchmarks.serving.network import Network
from benchmarks.serving.payloads import Payload, jpeg_base64, jpeg_body, jpeg_upload, read_probabilities, v2_binary, v2_json
from benchmarks.serving.servers import HOST, Server

NUM_PAIRS = 5
MAX_PAIRS = 8
NUM_CLIENTS = 16
MIN_AGREEMENT = 0.75
"""Share of the images for which both name the same class; the decoders' last bits and int8 may turn a close one."""

FASTAPI = Side(start=servers.fastapi, payload=jpeg_upload("/predict", "file"))
BENTOML = Side(start=servers.bentoml, payload=jpeg_upload("/predict", "image"))
LITSERVE = Side(start=servers.litserve, payload=jpeg_base64("/predict", "image"))
MLSERVER_JSON = Side(start=servers.mlserver, payload=v2_json)
KSERVE_JSON = Side(start=servers.kserve, payload=v2_json)
KSERVE_BINARY = Side(start=servers.kserve, payload=v2_binary)


@dataclass(frozen=True)
class Form:
    """What the predictor is asked by."""

    name: str
    title: str
    payload: Payload


JPEG = Form("jpeg", "JPEG", jpeg_body)
JSON = Form("JSON", "V2 JSON", v2_json)
BINARY = Form("binary", "V2 binary", v2_binary)


@dataclass(frozen=True)
class Comparison:
    """Throughput at 16 clients against one baseline."""

    form: Form
    precision: str
    baseline: Side
    baseline_name: str
    baseline_title: str
    goal: float

    @property
    def name(self) -> str:
        return f"{self.form.name}-{self.precision}-{self.baseline_name}"

    @property
    def title(self) -> str:
        return f"{self.form.title}, {self.precision}, against {self.baseline_title}"


def compare_jpeg() -> list[Comparison]:
    """JPEG files: FastAPI in each precision, then the other general servers."""
    return [
        Comparison(JPEG, "int8", FASTAPI, "fastapi", "FastAPI + torch", 8.0),
        Comparison(JPEG, "bf16", FASTAPI, "fastapi", "FastAPI + torch", 4.5),
        Comparison(JPEG, "fp32", FASTAPI, "fastapi", "FastAPI + torch", 1.0),
        Comparison(JPEG, "int8", BENTOML, "bentoml", "BentoML", 1.0),
        Comparison(JPEG, "int8", LITSERVE, "litserve", "LitServe", 1.0),
    ]


def compare_tensors(binary_goal: float, precision: str) -> list[Comparison]:
    """V2 JSON against V2 JSON; V2 binary against the SDK's server, which reads it too, and against MLServer, which does not."""
    return [
        Comparison(JSON, precision, MLSERVER_JSON, "mlserver", "MLServer", 2.5),
        Comparison(JSON, precision, KSERVE_JSON, "kserve", "the KServe SDK", 2.5),
        Comparison(BINARY, precision, KSERVE_BINARY, "kserve", "the KServe SDK", binary_goal),
        Comparison(BINARY, precision, MLSERVER_JSON, "mlserver", "MLServer's V2 JSON", binary_goal),
    ]


def measure(comparison: Comparison, network: Network, label: str, watch: Watch, folder: Path) -> tuple[Figure, list[Pair]]:
    """The ratio of the rates; `label` says what is served, in the figure's name and title."""
    folder = folder / f"{label}-{comparison.name}"
    folder.mkdir()
    ours = Side(start=partial(servers.slipway, precision=comparison.precision), payload=comparison.form.payload)
    with ExitStack() as stack:
        server, requests = stack.enter_context(serve(ours, network, folder))
        baseline, baseline_requests = stack.enter_context(serve(comparison.baseline, network, folder))
        agreement = compare_answers((server, requests), (baseline, baseline_requests), network)
        player = stack.enter_context(load_on(server, requests, folder, num_clients=NUM_CLIENTS))
        other = stack.enter_context(load_on(baseline, baseline_requests, folder, num_clients=NUM_CLIENTS))
        pairs = list(play(player, other, watch, num_pairs=NUM_PAIRS, max_pairs=MAX_PAIRS))
    figure = ratio_figure(
        pairs,
        [pair.ours.facts["rate"] / pair.baseline.facts["rate"] for pair in pairs],
        name=f"serving-{label}-{comparison.name}",
        title=f"{label}: {comparison.title}",
        wanted=comparison.goal,
        details={"same_class": agreement, "clients": NUM_CLIENTS, **describe_turns(pairs, baseline.name)},
    )
    return figure, pairs


def compare_answers(ours: tuple[Server, Path], baseline: tuple[Server, Path], network: Network) -> float:
    """Share of the images for which both name the same class.

    Raises:
        RuntimeError: it is so small that they cannot serve the same network.
    """
    num_classes = len(json.loads(network.description.read_text())["class_names"])

    def classify(server: Server, requests: Path) -> Sequence[int]:
        answers = [ask((HOST, server.port), path.read_bytes())[1] for path in sorted(requests.iterdir())]
        return [int(np.argmax(read_probabilities(answer, num_classes))) for answer in answers]

    agreement = float(np.mean(np.equal(classify(*ours), classify(*baseline))))
    if agreement < MIN_AGREEMENT:
        raise RuntimeError(
            f"{ours[0].name} and {baseline[0].name} name the same class for {agreement:.0%} of the images: "
            f"they do not serve the same network. Accepted: at least {MIN_AGREEMENT:.0%}."
        )
    return agreement
