"""Who may ask, and how often: bearer tokens, client certificates, a rate for each client address."""

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_network
from math import ceil

from slipway.errors import ConfigError
from slipway.log import get_logger
from slipway.serving.http.app_options import Guards
from slipway.serving.http.messages import App, Receive, Scope, Send, address_of
from slipway.serving.http.refusal import Refusal
from slipway.serving.http.routes import Route, find_route, is_probe
from slipway.serving.observe.refusals import Refusals
from slipway.serving.process.changes import ChangingFiles
from slipway.serving.process.options import AccessOptions

MIN_TOKEN_CHARACTERS = 16
_LOOK_SECONDS = 1.0
_MAX_ADDRESSES = 10_000
_IPV6_PREFIX = 64
"""One client commonly has all addresses of such a network."""
_SCHEME = "bearer "

_NO_TOKEN = Refusal(
    401,
    "This needs a token; accepted: the header Authorization: Bearer TOKEN.",
    ((b"www-authenticate", b'Bearer realm="slipway"'),),
)
_WRONG_TOKEN = Refusal(
    401,
    "The token is not one that is accepted here.",
    ((b"www-authenticate", b'Bearer realm="slipway", error="invalid_token"'),),
)
_NO_CERTIFICATE = Refusal(403, "This needs a client certificate that an authority of this server has signed.")


class Tokens:
    """The bearer tokens that are accepted; those of a file are read again when it changes.

    Raises:
        ConfigError: the file cannot be read, or there is no token, or one that is too short.
    """

    def __init__(self, options: AccessOptions, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._fixed = _digest_all(options.token.split(","), "SLIPWAY_SERVING_TOKEN")
        self._file = options.token_file
        self._clock = clock
        self._looked_at = clock()
        self._changes = ChangingFiles(self._file)
        self._from_file = self._changes.read_changed(self._read_file) or ()
        if self._file is not None and not self._from_file:
            raise ConfigError(f"{self._file} holds no token; accepted: one a line.")

    @property
    def are_needed(self) -> bool:
        """Whether there is any."""
        return bool(self._fixed) or self._file is not None

    def find_refusal(self, authorization: str) -> Refusal | None:
        """Why a request with this Authorization header ("" for none) is refused; None where it is let through."""
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            return _NO_TOKEN
        self._look_again()
        digest = hashlib.sha256(authorization[len(_SCHEME) :].strip().encode("latin-1", "replace")).digest()
        matches = [hmac.compare_digest(digest, known) for known in (*self._fixed, *self._from_file)]  # all: no early end
        return None if any(matches) else _WRONG_TOKEN

    def _look_again(self) -> None:
        if self._file is None or self._clock() - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = self._clock()
        tokens = self._changes.read_again(self._read_file, failure="tokens_not_read")  # those that were accepted still are
        if tokens is not None:
            self._from_file = tokens
            get_logger(__name__).info("tokens_read", file=str(self._file), number=len(tokens))

    def _read_file(self) -> tuple[bytes, ...]:
        if self._file is None:
            return ()
        try:
            return _digest_all(self._file.read_text().splitlines(), str(self._file))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--token-file {self._file} cannot be read ({error}).") from None


class Rate:
    """A bucket of requests for each client address, filled at a steady rate. Full buckets are forgotten."""

    def __init__(self, options: AccessOptions, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = options.requests_per_second
        self._burst = float(options.burst or max(1, ceil(options.requests_per_second)))
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit."""
        return self._per_second > 0

    def find_refusal(self, address: str) -> Refusal | None:
        """Why a further request of this address is refused now; None where it is let through, and counted."""
        client, now = client_of(address), self._clock()
        level, seen_at = self._buckets.pop(client, (self._burst, now))
        level = min(self._burst, level + (now - seen_at) * self._per_second)
        allowed = level >= 1
        self._buckets[client] = (level - 1 if allowed else level, now)
        if len(self._buckets) > _MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        if allowed:
            return None
        wait = str(ceil((1 - level) / self._per_second)).encode()
        accepted = f"{self._per_second:g} requests a second"
        return Refusal(429, f"Too many requests from this address; accepted: {accepted}.", ((b"retry-after", wait),))


class Access:
    """Decides over each request, of whatever protocol. Probes are for everybody; see `AccessOptions`."""

    def __init__(self, options: AccessOptions) -> None:
        self._tokens = Tokens(options)
        self._rate = Rate(options)
        self._needs_certificate = options.tls_client_ca is not None
        self._open_metrics = options.open_metrics

    @property
    def is_open(self) -> bool:
        """Whether everybody may ask as often as they like."""
        return not (self._tokens.are_needed or self._rate.is_limited or self._needs_certificate)

    @property
    def guards(self) -> Guards:
        """What requests need, for the interface's description."""
        return Guards(
            needs_token=self._tokens.are_needed,
            needs_certificate=self._needs_certificate,
            limits_rate=self._rate.is_limited,
            open_metrics=self._open_metrics,
        )

    def find_refusal(self, path: str, *, authorization: str, address: str, has_certificate: bool) -> Refusal | None:
        """Why a request is refused; None where it is let through."""
        if is_probe(path):
            return None
        if self._rate.is_limited and (refusal := self._rate.find_refusal(address)) is not None:
            return refusal
        if self._open_metrics and find_route(path) == Route("metrics"):
            return None
        if self._needs_certificate and not has_certificate:
            return _NO_CERTIFICATE
        return self._tokens.find_refusal(authorization) if self._tokens.are_needed else None


class GuardedApp:
    """An ASGI application behind `Access`."""

    def __init__(self, app: App, access: Access, refusals: Refusals) -> None:
        self._app = app
        self._access = access
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        refusal = self._access.find_refusal(
            scope["path"],
            authorization=_find_header(scope, b"authorization"),
            address=address_of(scope),
            has_certificate=_has_certificate(scope),
        )
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await refusal.answer(scope, send, self._refusals)


def _has_certificate(scope: Scope) -> bool:
    tls = scope.get("extensions", {}).get("tls")
    return tls is not None and tls["client_cert_name"] is not None


def _find_header(scope: Scope, wanted: bytes) -> str:
    for name, value in scope["headers"]:
        if name == wanted:
            found: str = value.decode("latin-1")
            return found
    return ""


def client_of(address: str) -> str:
    """Whose it is: of IPv6 the network counts, or a client would be as many as it likes."""
    if ":" not in address:
        return address
    plain = IPv6Address(address.partition("%")[0])
    if plain.ipv4_mapped is not None:
        return str(plain.ipv4_mapped)
    return str(ip_network((plain, _IPV6_PREFIX), strict=False))


def _digest_all(lines: list[str], where: str) -> tuple[bytes, ...]:
    tokens = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    for position, token in enumerate(tokens, start=1):
        if len(token) < MIN_TOKEN_CHARACTERS or not token.isascii() or " " in token:
            accepted = f"{MIN_TOKEN_CHARACTERS} or more ASCII characters, no spaces"
            raise ConfigError(f"{where}: token {position} is not accepted; accepted: {accepted}.")
    return tuple(hashlib.sha256(token.encode()).digest() for token in tokens)
