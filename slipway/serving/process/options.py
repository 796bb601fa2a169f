"""Every option of the predictor: name, default, what it means, accepted values. docs/predictor.md lists them.

`max_batch_size` is `--max-batch-size` on the command line and SLIPWAY_SERVING_MAX_BATCH_SIZE in the environment; the command
line has the last word. `option_values` reads both.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from slipway.cores import count_cores
from slipway.errors import ConfigError
from slipway.serving.process.option_values import check_value, read_options
from slipway.settings import Settings

MIB = 1024 * 1024
_PATH_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ACCEPTED_PART = "letters, digits, dots, dashes and underscores, the first a letter or digit: it stands in paths"
_ORIGIN = re.compile(r"(?!http:.*:80$|https:.*:443$)[a-z][a-z0-9+.-]*://[^/?#@\sA-Z]+")
_ACCEPTED_ORIGIN = "*, or what browsers send: SCHEME://HOST[:PORT] in small letters, no slash behind it, no default port"


def _about(text: str, *, least: float | None = None, most: float | None = None, secret: bool = False) -> dict[str, Any]:
    return {"help": text, "least": least, "most": most, "secret": secret}


@dataclass(frozen=True, kw_only=True)
class ServedOptions:
    """What is served: either a bundle under a name, or what a pointer file names."""

    bundle: str = field(default="", metadata=_about("folder of the bundle to serve, or its s3://BUCKET/FOLDER"))
    name: str = field(default="", metadata=_about("model name in the URLs; needed with --bundle"))
    version: str = field(
        default="", metadata=_about("model version in the answers, with --bundle; SLIPWAY_MODEL_VERSION, or 1, by default")
    )
    pointer: Path | None = field(default=None, metadata=_about("current.json of a deployed model, followed as it changes"))


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What runs the model; `auto` takes what is fastest of what the bundle and the machine allow."""

    engine: Literal["auto", "openvino", "onnxruntime"] = field(default="auto", metadata=_about("what runs the model"))
    precision: Literal["auto", "fp32", "bf16", "int8"] = field(default="auto", metadata=_about("arithmetic of the model"))
    device: Literal["auto", "cpu", "cuda"] = field(default="auto", metadata=_about("what it runs on"))
    threads: int = field(
        default=0,
        metadata=_about("threads that one inference may use; 0 for the cores that this process has", least=0, most=1024),
    )


@dataclass(frozen=True, kw_only=True)
class BatchingOptions:
    """What goes together, and what may wait."""

    max_batch_size: int = field(default=16, metadata=_about("samples in one inference, at most", least=1, most=4096))
    max_queue_samples: int = field(
        default=1024, metadata=_about("samples that may wait; above it requests get 503 with Retry-After", least=1)
    )
    max_queue_bytes: int = field(
        default=256 * MIB, metadata=_about("bytes of bodies and arrays that may wait; above it requests get 503", least=MIB)
    )
    workers: int = field(default=2, metadata=_about("threads that decode bodies and run the model", least=2, most=256))
    deadline_seconds: float = field(
        default=60.0,
        metadata=_about("after which a request that has no answer gets 504, where it says no time itself", least=0.001),
    )


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """What requests may hold, and who may ask from a browser."""

    max_body_bytes: int = field(
        default=32 * MIB, metadata=_about("largest body, also once it is unpacked; above it 413", least=1024)
    )
    unknown_columns: Literal["refuse", "ignore"] = field(
        default="refuse", metadata=_about("columns that the model does not know")
    )
    unknown_categories: Literal["accept", "refuse"] = field(
        default="accept", metadata=_about("categories that training did not see; accepted ones count as unknown")
    )
    cors_origins: tuple[str, ...] = field(
        default=(), metadata=_about("origins whose pages may ask, such as https://shop.example; * for all")
    )
    docs: bool = field(default=True, metadata=_about("the page /docs and the OpenAPI document"))


@dataclass(frozen=True, kw_only=True)
class ListenOptions:
    """Where requests come in."""

    host: str = field(default="127.0.0.1", metadata=_about("address to listen on"))
    port: int = field(default=8080, metadata=_about("of HTTP; 0 takes a free one", least=0, most=65535))
    grpc_port: int = field(
        default=-1, metadata=_about("of the same protocol over gRPC; 0 takes a free one, -1 for none", least=-1, most=65535)
    )
    port_file: Path | None = field(
        default=None, metadata=_about("where to write host and ports as JSON once requests are answered")
    )


@dataclass(frozen=True, kw_only=True)
class ClientLimits:
    """What one client may take up. Times in seconds."""

    max_connections: int = field(
        default=1000, metadata=_about("connections at a time; idle ones give way to new ones, then requests get 503", least=1)
    )
    keep_alive_seconds: float = field(
        default=75.0, metadata=_about("that a connection may rest between two requests", least=0.01)
    )
    head_seconds: float = field(default=10.0, metadata=_about("for a request's head to arrive; then 408", least=0.01))
    body_seconds: float = field(
        default=20.0,
        metadata=_about("for a body to arrive, and one more for each --min-body-rate bytes of it; then 408", least=0.01),
    )
    min_body_rate: int = field(default=4096, metadata=_about("bytes a second that a large body must arrive with", least=1))
    max_receiving_bytes: int = field(
        default=256 * MIB, metadata=_about("of bodies on their way, all clients together; above it 503", least=MIB)
    )
    answer_seconds: float = field(
        default=20.0, metadata=_about("without a byte of the answer being taken, after which the connection is cut", least=0.01)
    )
    max_head_bytes: int = field(default=32 * 1024, metadata=_about("of request line and headers; above it 431", least=512))
    max_headers: int = field(default=100, metadata=_about("headers of a request; above it 431", least=8))


@dataclass(frozen=True, kw_only=True)
class AccessOptions:
    """Who may ask. Liveness and readiness answer everybody."""

    token: str = field(
        default="",
        repr=False,
        metadata=_about("bearer tokens, separated by commas; from SLIPWAY_SERVING_TOKEN alone", secret=True),
    )
    token_file: Path | None = field(
        default=None, metadata=_about("file of bearer tokens, one a line; read again when it changes")
    )
    open_metrics: bool = field(default=True, metadata=_about("whether /metrics answers without a token or certificate"))
    tls_certificate: Path | None = field(default=None, metadata=_about("certificate chain (PEM); makes it HTTPS"))
    tls_key: Path | None = field(default=None, metadata=_about("its private key (PEM)"))
    tls_client_ca: Path | None = field(
        default=None, metadata=_about("authorities (PEM) one of which must have signed the client's certificate")
    )
    requests_per_second: float = field(
        default=0.0, metadata=_about("of one client address; above it 429 with Retry-After; 0 for no limit", least=0)
    )
    burst: int = field(default=0, metadata=_about("requests that an address may make at once; 0 for a second's worth", least=0))


@dataclass(frozen=True, kw_only=True)
class LifeOptions:
    """How it ends."""

    drain_seconds: float = field(
        default=0.0, metadata=_about("how long to go on answering after SIGTERM, no longer ready", least=0, most=3600)
    )
    grace_seconds: float = field(
        default=30.0, metadata=_about("for what has begun to be answered after that; then it is cut off", least=0, most=3600)
    )
    until_stdin_closes: bool = field(default=False, metadata=_about("end with the process that holds the other end"))


@dataclass(frozen=True, kw_only=True)
class ObservationOptions:
    """What is told of the requests."""

    metrics: bool = field(default=True, metadata=_about("/metrics for Prometheus"))
    access_log: float = field(
        default=0.0,
        metadata=_about(
            "share of the answered requests that are logged; failed and slow ones always are, unless it is 0", least=0, most=1
        ),
    )
    access_log_slow_seconds: float = field(default=1.0, metadata=_about("from which on a request counts as slow", least=0))
    tracing_endpoint: str = field(
        default="", metadata=_about("OTLP/HTTP address that spans go to, such as http://collector:4318")
    )
    tracing_share: float = field(
        default=1.0, metadata=_about("share of the traces that begin here; a client's own are followed", least=0, most=1)
    )
    payload_log: str = field(
        default="", metadata=_about("folder or s3://BUCKET/FOLDER that requests and answers are kept in, as Parquet")
    )
    payload_share: float = field(default=0.1, metadata=_about("share of the requests that are kept", least=0, most=1))
    payload_redact: tuple[str, ...] = field(default=(), metadata=_about("inputs or columns whose values are left out of it"))
    payload_hash: tuple[str, ...] = field(
        default=(), metadata=_about("inputs or columns whose values are replaced by a keyed hash")
    )
    payload_hash_key: str = field(
        default="",
        repr=False,
        metadata=_about(
            "of the hashes, from SLIPWAY_SERVING_PAYLOAD_HASH_KEY alone; a new one a process by default", secret=True
        ),
    )
    payload_images: bool = field(default=False, metadata=_about("whether images are kept too, not just their figures"))
    payload_flush_seconds: float = field(default=60.0, metadata=_about("how long a row waits for its file at most", least=0.01))
    payload_max_bytes: int = field(
        default=1024 * MIB, metadata=_about("of the model's files in all; the oldest give way; 0 for no limit", least=0)
    )


@dataclass(frozen=True, kw_only=True)
class ServerOptions(
    ObservationOptions,
    LifeOptions,
    AccessOptions,
    ClientLimits,
    ListenOptions,
    RequestOptions,
    BatchingOptions,
    EngineOptions,
    ServedOptions,
):
    """All of them; each part can be had alone."""

    def __post_init__(self) -> None:
        for one in fields(self):
            check_value(one, getattr(self, one.name))
        if bool(self.bundle) == (self.pointer is not None):
            raise ConfigError("Nothing to serve, or two things; accepted: --bundle with --name, or --pointer.")
        if self.bundle and not self.name:
            raise ConfigError("--bundle needs --name, the model's name in the URLs.")
        if self.name and not _PATH_PART.fullmatch(self.name):
            raise ConfigError(f"--name is {self.name!r}; accepted: {_ACCEPTED_PART}.")
        if self.version and not _PATH_PART.fullmatch(self.version):
            raise ConfigError(f"--version (or SLIPWAY_MODEL_VERSION) is {self.version!r}; accepted: {_ACCEPTED_PART}.")
        for origin in self.cors_origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ConfigError(f"--cors-origins names {origin!r}; accepted: {_ACCEPTED_ORIGIN}.")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ConfigError("--tls-certificate and --tls-key go together; one of them is missing.")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ConfigError("--tls-client-ca needs --tls-certificate and --tls-key.")

    @property
    def num_threads(self) -> int:
        """`threads`, with the cores of this process in place of 0."""
        return self.threads or count_cores()


GROUPS: Sequence[type] = (
    ServedOptions,
    EngineOptions,
    BatchingOptions,
    RequestOptions,
    ListenOptions,
    ClientLimits,
    AccessOptions,
    LifeOptions,
    ObservationOptions,
)
"""In the order of the documentation."""


def load_options(arguments: Sequence[str], settings: Settings) -> ServerOptions:
    """Options from a command line, then from the settings.

    Raises:
        ConfigError: one is unknown or holds what it does not accept.
    """
    options = read_options(ServerOptions, GROUPS, arguments, settings.serving)
    return options if options.version else replace(options, version=settings.model_version or "1")
