"""TLS, and clients that show a certificate. The files are read again when they change, for connections from then on."""

import asyncio
import ssl
from typing import Any

from slipway.errors import ConfigError
from slipway.log import get_logger
from slipway.serving.process.changes import ChangingFiles
from slipway.serving.process.options import AccessOptions

_LOOK_SECONDS = 5.0


class ServerTls:
    """A server's side of TLS, 1.2 or newer.

    A client certificate is checked where it is shown; whether there must be one is decided by request (`access`), since the
    kubelet's probes show none.

    Raises:
        ConfigError: a file is missing, or holds not what it should.
    """

    def __init__(self, options: AccessOptions, *, look_seconds: float = _LOOK_SECONDS) -> None:
        self._options = options
        self._look_seconds = look_seconds
        self.context = _make_context()
        self._files = ChangingFiles(options.tls_certificate, options.tls_key, options.tls_client_ca)
        self._files.read_changed(lambda: self._load(self.context))

    async def follow_files(self) -> None:
        """Read the files again when they change, until cancelled."""
        while True:
            await asyncio.sleep(self._look_seconds)
            changed = self._files.read_again(self._load_again, failure="certificate_not_read")
            if changed is not None:
                get_logger(__name__).info("certificate_read", file=str(self._options.tls_certificate))

    def _load_again(self) -> ssl.SSLContext:
        self._load(_make_context())  # or the one in use would have half of what is there
        return self._load(self.context)

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        options = self._options
        try:
            context.load_cert_chain(str(options.tls_certificate), options.tls_key, password=_no_password)
            if options.tls_client_ca is not None:
                context.load_verify_locations(cafile=options.tls_client_ca)
                context.verify_mode = ssl.CERT_OPTIONAL
        except (OSError, ValueError) as error:  # SSLError is an OSError
            names = ", ".join(map(str, self._files.paths))
            raise ConfigError(
                f"TLS cannot be set up from {names} ({error}); accepted: a certificate chain, its key without a password, "
                "and authorities, all as PEM."
            ) from None
        return context


def describe_peer(transport: asyncio.BaseTransport) -> dict[str, Any]:
    """ASGI's extensions for a connection: of TLS, who the client is by its certificate; {} without TLS."""
    if transport.get_extra_info("sslcontext") is None:
        return {}
    certificate = transport.get_extra_info("peercert") or {}
    subject = ",".join(f"{name}={value}" for part in certificate.get("subject", ()) for name, value in part)
    return {"tls": {"client_cert_name": subject if certificate else None}}


def _make_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _no_password() -> str:
    return ""
