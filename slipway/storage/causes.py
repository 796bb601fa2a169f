"""The likely causes of what an object store answers, or of its silence, and what to do about each."""

import re
from dataclasses import dataclass, replace

_MESSAGE = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_DETAIL_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class Cause:
    """What was wrong and how to mend it; `{bucket}` and `{flipped}` (the endpoint with the other scheme) may stand in either."""

    reason: str
    remedy: str
    passing: bool = False
    """Whether waiting may mend it, as while a server starts."""

    def fill(self, *, endpoint: str, bucket: str) -> "Cause":
        """With the names put in."""
        scheme, _, host = endpoint.partition("://")
        names = {"bucket": bucket, "flipped": f"{'https' if scheme == 'http' else 'http'}://{host}"}
        return replace(self, reason=self.reason.format(**names), remedy=self.remedy.format(**names))


_DENIED = Cause(
    reason="access is denied",
    remedy="Let the store's administrator allow these credentials to use bucket {bucket!r}, or use others (AWS_ACCESS_KEY_ID).",
)
_SKEWED = Cause(
    reason="clock skew: this machine's clock and the server's differ by more than S3 accepts (15 minutes)",
    remedy="Set the clocks right (timedatectl set-ntp true); a virtual machine that slept often lags.",
)
_OTHER_REGION = Cause(
    reason="the bucket lies in another region", remedy="Set AWS_REGION (and AWS_ENDPOINT_URL) to the bucket's region."
)
_STARTING = Cause(reason="the server is not ready", remedy="Wait until it is; look at its log if it stays so.", passing=True)
_FULL = Cause(reason="the server's disk is full, or a quota used up", remedy="Delete old objects, or enlarge the volume.")
_NO_S3 = Cause(
    reason="the endpoint answers, but not as an S3 server",
    remedy="Let AWS_ENDPOINT_URL name the S3 port (MinIO: 9000), not the console's, and no proxy.",
)
_WANTS_TLS = Cause(reason="TLS: the server wants https, the endpoint says http", remedy="Set AWS_ENDPOINT_URL={flipped}.")
_NO_TLS = Cause(reason="TLS: the endpoint says https, the server speaks http", remedy="Set AWS_ENDPOINT_URL={flipped}.")
_OTHER_HOST = Cause(
    reason="TLS: the server's certificate is for another host name",
    remedy="Let AWS_ENDPOINT_URL name a host that the certificate lists, or issue one that lists this host.",
)
_EXPIRED = Cause(
    reason="TLS: the server's certificate is out of date, or the clock here is wrong", remedy="Renew it; check both clocks."
)
_UNTRUSTED = Cause(
    reason="TLS: the server's certificate is not trusted",
    remedy="Let AWS_CA_BUNDLE name the file with the certificate of the authority that signed it.",
)
_REFUSED = Cause(
    reason="the connection was refused: nothing listens there",
    remedy="Start the server, or correct host and port in AWS_ENDPOINT_URL.",
    passing=True,
)
_NO_HOST = Cause(
    reason="the host name is not known (DNS)",
    remedy="Correct the host in AWS_ENDPOINT_URL; a cluster's short names resolve in their own namespace only.",
    passing=True,
)
_SILENT = Cause(
    reason="the server did not answer in time",
    remedy="Check the network (a firewall or NetworkPolicy drops silently) and the server's load.",
    passing=True,
)
_CUT = Cause(
    reason="the connection broke off",
    remedy="Look at the server's log: it may have been restarted, or be out of memory or disk. Then run it again.",
    passing=True,
)

_UNKNOWN_KEY = Cause(
    reason="wrong credentials: the server does not know the access key",
    remedy="Correct AWS_ACCESS_KEY_ID; on a cluster it comes from the secret slipway-s3.",
)

_BY_CODE = {
    "InvalidAccessKeyId": _UNKNOWN_KEY,
    "XAdminUserNotFound": _UNKNOWN_KEY,  # the Versity gateway's name for it
    "SignatureDoesNotMatch": Cause(
        reason="wrong credentials: the secret key does not belong to the access key",
        remedy="Correct AWS_SECRET_ACCESS_KEY; on a cluster it comes from the secret slipway-s3.",
    ),
    "InvalidTokenId": Cause(
        reason="wrong credentials: the session token is not known", remedy="Renew the credentials, or unset AWS_SESSION_TOKEN."
    ),
    "ExpiredToken": Cause(
        reason="the credentials have expired", remedy="Renew AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN."
    ),
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "RequestTimeTooSkewed": _SKEWED,
    "RequestExpired": _SKEWED,
    "NoSuchBucket": Cause(
        reason="there is no such bucket",
        remedy="Make it: python -m slipway.storage.buckets --bucket {bucket}. Or correct the name.",
    ),
    "InvalidBucketName": Cause(
        reason="this is no valid bucket name", remedy="Use 3 to 63 lower-case letters, digits, dots and hyphens."
    ),
    "AuthorizationHeaderMalformed": _OTHER_REGION,
    "PermanentRedirect": _OTHER_REGION,
    "PreconditionFailed": Cause(reason="it was replaced while it was read", remedy="Run it again."),
    "XMinioStorageFull": _FULL,
    "QuotaExceeded": _FULL,
    "SlowDown": _STARTING,
    "ServiceUnavailable": _STARTING,
    "InternalError": _STARTING,
    "XMinioServerNotInitialized": _STARTING,
}

# Wording of the clients where no server answered in S3's terms: obstore's, then that of Python's own connections.
_BY_WORDING = (
    (r"HTTP request to an HTTPS server", _WANTS_TLS),
    (r"InvalidContentType|WRONG_VERSION_NUMBER|record layer failure", _NO_TLS),
    (r"NotValidForName|IP address mismatch|Hostname mismatch", _OTHER_HOST),
    (r"InvalidCertificate\(\s*(Expired|NotValidYet)|certificate has expired|certificate is not yet valid", _EXPIRED),
    (r"InvalidCertificate|CERTIFICATE_VERIFY_FAILED", _UNTRUSTED),
    (r"ConnectionRefused|Connection refused", _REFUSED),
    (r"dns error|Failed to resolve", _NO_HOST),
    (r"169\.254\.169\.254", Cause(reason="there are no credentials", remedy="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")),
    (r"kind: Timeout|timed out", _SILENT),
    (r"UnexpectedEof|IncompleteMessage|IncompleteBody|ConnectionReset|BrokenPipe|Connection aborted|reset by peer", _CUT),
    (
        r"illegal character sequence|empty path segment",
        Cause(
            reason="an object there has a name that no file can have (an empty part, `.`, `..` or a control character)",
            remedy="Rename or delete it: it could lie outside of the folder.",
        ),
    ),
    (r"No space left on device", Cause(reason="this machine's disk is full", remedy="Make room where the file is written to.")),
    (r"status code: 404", _NO_S3),
    (r"status code: 40[13]|DeleteObjects request failed.*Access ?Denied", _DENIED),
    (r"status code: 5\d\d", _STARTING),
)


def find_code(text: str) -> str:
    """S3's name of the error in a client's message; "" where the answer had none."""
    found = _CODE.search(text)
    return found.group(1) if found else ""


def find_cause(text: str) -> Cause:
    """The cause that a client's message tells, or the message itself where it is none of the known ones."""
    code = find_code(text)
    if "API port" in text:  # the words of MinIO's console
        return _NO_S3
    if code in _BY_CODE:
        return _BY_CODE[code]
    if not code:
        for pattern, cause in _BY_WORDING:
            if re.search(pattern, text):
                return cause
    message = _MESSAGE.search(text)
    detail = f"{code}: {message.group(1)}" if message else text.partition("\n\nDebug source")[0]
    detail = detail.strip()[:_DETAIL_CHARACTERS].replace("{", "{{").replace("}", "}}")
    return Cause(reason=detail, remedy="`slipway doctor` checks S3; the server's log may say more.")
