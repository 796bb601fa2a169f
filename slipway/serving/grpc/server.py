"""The gRPC server in the predictor's event loop: its port, its limits, TLS, its end."""

import grpc
from grpc import aio

from slipway.errors import ConfigError, DeployError
from slipway.log import get_logger
from slipway.serving.grpc.reception import Reception
from slipway.serving.grpc.service import InferenceService
from slipway.serving.http.app_options import AppOptions
from slipway.serving.inference.model import ModelSlot
from slipway.serving.observe.observers import Observation
from slipway.serving.process.access import Access
from slipway.serving.process.changes import ChangingFiles
from slipway.serving.process.options import ServerOptions

_MAX_CALLS = 256
"""At a time; each may hold `_WINDOW_BYTES` of its message, and those that are received (see `Reception`) all of it."""
_WINDOW_BYTES = 256 * 1024
"""What a client sends before its message is asked for: a smaller one comes without a wait for that."""
_MIN_PLACES = 16
"""For messages that are received, whatever their largest size: fewer hold up many small ones."""
_NUM_FOR_PROBES = 8
_PROBE_SECONDS = 1.0
"""For a probe's message, which comes whole in the window: who sends it sends it at once."""
_LATE_PROBE_SECONDS = 0.1
"""For one that has waited for its place for so long already: to be handed over, in a process that is busy."""
_MAX_METADATA_BYTES = 16 * 1024
_MIN_PING_MILLISECONDS = 10_000
_log = get_logger(__name__)


class GrpcServer:
    """See `start` and `stop`. To be made on the event loop that it runs in."""

    def __init__(
        self, options: ServerOptions, app_options: AppOptions, slot: ModelSlot, access: Access, observation: Observation
    ) -> None:
        self.service = InferenceService(
            slot,
            app_options,
            access,
            observation.observers,
            observation.refusals,
            reception=Reception(
                max(_MIN_PLACES, options.max_receiving_bytes // options.max_body_bytes),
                message_seconds=options.body_seconds,
                call_seconds=options.deadline_seconds,
            ),
            probe_reception=Reception(
                _NUM_FOR_PROBES,
                message_seconds=_PROBE_SECONDS,
                call_seconds=options.deadline_seconds,
                late_seconds=_LATE_PROBE_SECONDS,
            ),
        )
        self._options = options
        self._server = aio.server(
            handlers=[self.service],
            maximum_concurrent_rpcs=_MAX_CALLS,
            compression=grpc.Compression.NoCompression,
            options=[
                ("grpc.max_receive_message_length", app_options.max_body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
                ("grpc.http2.bdp_probe", 0),  # or windows grow with the connection's speed, whatever is asked for
                ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
                ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
                ("grpc.max_connection_idle_ms", round(options.keep_alive_seconds * 1000)),
                ("grpc.http2.min_ping_interval_without_data_ms", _MIN_PING_MILLISECONDS),
                ("grpc.so_reuseport", 0),  # or a second server takes half of the requests instead of a refusal
            ],
        )

    async def start(self) -> int:
        """Listen; gives the port.

        Raises:
            DeployError: the port is taken.
            ConfigError: a file of TLS cannot be used.
        """
        host, port = self._options.host, self._options.grpc_port
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if self._options.tls_certificate is None:
                bound: int = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, _Certificates(self._options).credentials)
        except RuntimeError:
            raise DeployError(
                f"Cannot listen on {host}, port {port}, for gRPC. Choose another --grpc-port, or 0 for a free one."
            ) from None
        await self._server.start()
        _log.info("grpc_ready", host=host, port=bound)
        return bound

    async def stop(self, grace_seconds: float) -> None:
        """Refuse new calls (UNAVAILABLE), answer those that have begun, for so long at most."""
        await self._server.stop(grace_seconds)


class _Certificates:
    """The files of TLS, read again when they change."""

    def __init__(self, options: ServerOptions) -> None:
        self._paths = (options.tls_key, options.tls_certificate, options.tls_client_ca)
        self._files = ChangingFiles(*self._paths)
        configuration = self._read_changed()
        if configuration is None:
            raise ConfigError("TLS cannot be set up for gRPC: the files of --tls-certificate and --tls-key cannot be read.")
        self.credentials = grpc.dynamic_ssl_server_credentials(
            configuration, self._read_changed, require_client_authentication=options.tls_client_ca is not None
        )

    def _read_changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What new connections are to use; None for what they use already. Called by gRPC's threads."""
        return self._files.read_again(self._read, failure="certificate_not_read")

    def _read(self) -> grpc.ServerCertificateConfiguration:
        key, certificate, authorities = (None if path is None else path.read_bytes() for path in self._paths)
        return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=authorities)
