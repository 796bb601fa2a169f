"""Make buckets as the platform needs them: `python -m slipway.storage.buckets --bucket SPEC [--bucket SPEC ...]`.

SPEC is `NAME[:versioned][:expire=PREFIX=DAYS ...][:noncurrent=DAYS]`, such as

    --bucket mlpipeline:versioned:noncurrent=30
    --bucket mlflow:versioned:noncurrent=30
    --bucket slipway:versioned:expire=state/cache/=30:expire=state/work/=14:noncurrent=30

`versioned` keeps what is overwritten or deleted, and `expire=PREFIX=DAYS` removes objects whose key begins with PREFIX that long
after they were written. `noncurrent=DAYS` removes what nobody sees: versions that long after they were overwritten or deleted,
markers of deletions with no version left behind them, and the parts of uploads begun that long ago and never finished (MinIO
removes these by itself, after a day). Endpoint and credentials come from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY.

The server is waited for (`--wait-seconds`, 120). Running it again changes nothing that is already so. A server that knows no
versioning or lifecycle is an error, or a warning with `--allow-unsupported`. Ends with 0, or with 1 and a message.
"""

import argparse
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway.errors import ConfigError, SlipwayError, StorageError
from slipway.log import configure_logging, get_logger
from slipway.settings import Settings, load_settings
from slipway.storage.refusals import PassingStorageError, explain
from slipway.storage.sdk import SdkError, open_client, translated_errors
from slipway.storage.uri import S3Location

if TYPE_CHECKING:
    from minio import Minio
    from minio.lifecycleconfig import Rule

WAIT_SECONDS = 120.0
_POLL_SECONDS = 1.0
_REQUEST_SECONDS = 10.0
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_FORM = "NAME[:versioned][:expire=PREFIX=DAYS ...][:noncurrent=DAYS]"
_UNSUPPORTED_CODES = ("NotImplemented", "MethodNotAllowed", "UnsupportedOperation", "VersioningNotConfigured")
_UNSUPPORTED_STATUS = (405, 501)

log = get_logger(__name__)


class UnsupportedError(StorageError):
    """The server does not know what a spec asks for."""

    def __init__(self, action: str, location: S3Location, endpoint: str, code: str) -> None:
        super().__init__(
            f"{action} {location.uri} failed: the server at {endpoint} does not support it ({code}). "
            "Leave it out of the bucket's spec, or go on without it: --allow-unsupported."
        )
        self.code = code


@dataclass(frozen=True, kw_only=True)
class BucketSpec:
    """What a bucket should be like."""

    name: str
    versioned: bool = False
    expiry: tuple[tuple[str, int], ...] = ()
    """Prefixes, and the days after which what lies under them is removed."""
    noncurrent_days: int = 0
    """After which versions that are no longer current and unfinished uploads are removed; 0 keeps them."""

    @classmethod
    def parse(cls, text: str) -> "BucketSpec":
        """Read a SPEC.

        Raises:
            ConfigError: it is none; the message says which part.
        """
        name, *parts = text.split(":")
        if not _NAME.fullmatch(name):
            raise ConfigError(f"--bucket {text}: {name!r} is no bucket name (3 to 63 of a-z, 0-9, . and -). Accepted: {_FORM}.")
        expiry: list[tuple[str, int]] = []
        noncurrent_days = 0
        for part in parts:
            kind, _, value = part.partition("=")
            prefix, separator, days = value.rpartition("=")
            if kind == "expire" and prefix and separator:
                expiry.append((prefix, _parse_days(text, days)))
            elif kind == "noncurrent" and not separator:
                noncurrent_days = _parse_days(text, days)
            elif part != "versioned":
                raise ConfigError(f"--bucket {text}: {part!r} is not understood. Accepted: {_FORM}.")
        versioned = "versioned" in parts
        if noncurrent_days and not versioned:
            raise ConfigError(f"--bucket {text}: `noncurrent` is for buckets that are `versioned`. Accepted: {_FORM}.")
        return cls(name=name, versioned=versioned, expiry=tuple(expiry), noncurrent_days=noncurrent_days)


def ensure_buckets(
    settings: Settings, specs: Sequence[BucketSpec], *, wait_seconds: float = WAIT_SECONDS, allow_unsupported: bool = False
) -> None:
    """Bring each bucket to what its spec says; what is already so is left alone.

    Raises:
        StorageError: the server does not answer within `wait_seconds`, refuses, or lacks what a spec asks for.
    """
    client = open_client(settings, timeout_seconds=_REQUEST_SECONDS)
    _wait_until_ready(client, settings, specs[0].name, wait_seconds)
    for spec in specs:
        steps = [("bucket", _ensure_bucket)]
        if spec.versioned:
            steps.append(("versioning", _ensure_versioning))
        if spec.expiry or spec.noncurrent_days:
            steps.append(("lifecycle", _ensure_lifecycle))
        for what, ensure in steps:
            try:
                with _explained(settings, spec.name, f"Setting up the {what} of"):
                    log.info("changed" if ensure(client, spec) else "already so", bucket=spec.name, what=what)
            except UnsupportedError as error:
                if not allow_unsupported:
                    raise
                log.warning("left out: the server has none", bucket=spec.name, what=what, answer=error.code)


def _wait_until_ready(client: "Minio", settings: Settings, bucket: str, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            with _explained(settings, bucket, "Reaching"):
                _exists(client, bucket)
            return
        except PassingStorageError as error:
            if time.monotonic() >= deadline:
                raise StorageError(f"The object store was not ready within {wait_seconds:g} s. {error}") from error
        time.sleep(_POLL_SECONDS)


def _exists(client: "Minio", bucket: str) -> bool:
    """Asked by listing, because the answer to a HEAD request does not say what was wrong."""
    from minio.error import S3Error

    try:
        next(client.list_objects(bucket), None)
    except S3Error as error:
        if error.code != "NoSuchBucket":
            raise
        return False
    return True


def _ensure_bucket(client: "Minio", spec: BucketSpec) -> bool:
    from minio.error import S3Error

    if _exists(client, spec.name):
        return False
    try:
        client.make_bucket(spec.name)
    except S3Error as error:
        if error.code != "BucketAlreadyOwnedByYou":  # another one was first
            raise
        return False
    return True


def _ensure_versioning(client: "Minio", spec: BucketSpec) -> bool:
    from minio.commonconfig import ENABLED
    from minio.versioningconfig import VersioningConfig

    if client.get_bucket_versioning(spec.name).status == ENABLED:
        return False
    client.set_bucket_versioning(spec.name, VersioningConfig(ENABLED))
    return True


def _ensure_lifecycle(client: "Minio", spec: BucketSpec) -> bool:
    from minio.lifecycleconfig import LifecycleConfig

    rules = _make_rules(spec)
    present = _summarize_lifecycle(client, spec)
    if present == {_summarize(rule) for rule in rules}:
        return False
    client.set_bucket_lifecycle(spec.name, LifecycleConfig(rules))
    # MinIO takes the limit for unfinished uploads and drops it: asked again it looks as before.
    return present != _summarize_lifecycle(client, spec)


def _summarize_lifecycle(client: "Minio", spec: BucketSpec) -> "set[_Summary]":
    present = client.get_bucket_lifecycle(spec.name)
    return set() if present is None else {_summarize(rule) for rule in present.rules}


def _make_rules(spec: BucketSpec) -> "list[Rule]":
    from minio.commonconfig import ENABLED, Filter
    from minio.lifecycleconfig import AbortIncompleteMultipartUpload, Expiration, NoncurrentVersionExpiration, Rule

    rules = [
        Rule(ENABLED, rule_filter=Filter(prefix=prefix), rule_id=f"expire-{number}", expiration=Expiration(days=days))
        for number, (prefix, days) in enumerate(spec.expiry)
    ]
    if spec.noncurrent_days:
        # One rule: MinIO refuses one that says of unfinished uploads alone.
        rule = Rule(
            ENABLED,
            rule_filter=Filter(prefix=""),
            rule_id="noncurrent",
            noncurrent_version_expiration=NoncurrentVersionExpiration(noncurrent_days=spec.noncurrent_days),
            expiration=Expiration(expired_object_delete_marker=True),
            abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(days_after_initiation=spec.noncurrent_days),
        )
        rules.append(rule)
    return rules


@dataclass(frozen=True, kw_only=True)
class _Summary:
    """What a rule of ours says."""

    status: str
    prefix: str
    days: int
    removes_markers: bool
    noncurrent_days: int
    unfinished_days: int


def _summarize(rule: "Rule") -> _Summary:
    expiration, noncurrent, unfinished = (
        rule.expiration,
        rule.noncurrent_version_expiration,
        rule.abort_incomplete_multipart_upload,
    )
    return _Summary(
        status=rule.status,
        prefix=(rule.rule_filter and rule.rule_filter.prefix) or "",
        days=(expiration and expiration.days) or 0,
        removes_markers=bool(expiration and expiration.expired_object_delete_marker),
        noncurrent_days=(noncurrent and noncurrent.noncurrent_days) or 0,
        unfinished_days=(unfinished and unfinished.days_after_initiation) or 0,
    )


@contextmanager
def _explained(settings: Settings, bucket: str, action: str) -> Iterator[None]:
    location = S3Location(bucket=bucket, key="")
    try:
        with translated_errors():
            yield
    except SdkError as error:
        if error.code in _UNSUPPORTED_CODES or error.status in _UNSUPPORTED_STATUS:
            raise UnsupportedError(action, location, settings.s3_endpoint, error.code) from error
        raise explain(str(error), settings.s3_endpoint, location, action) from error


def _parse_days(text: str, days: str) -> int:
    if not days.isdecimal() or int(days) < 1:
        raise ConfigError(f"--bucket {text}: {days!r} is no number of days. Accepted: 1 or more, as in expire=state/cache/=30.")
    return int(days)


def main() -> int:
    """Parse the command line and make the buckets."""
    parser = argparse.ArgumentParser(prog="python -m slipway.storage.buckets", description="Make buckets, as often as you like.")
    parser.add_argument("--bucket", action="append", required=True, metavar="SPEC", help=_FORM)
    parser.add_argument("--wait-seconds", type=float, default=WAIT_SECONDS, help="for the server to answer")
    parser.add_argument("--allow-unsupported", action="store_true", help="go on where a server has no versioning or lifecycle")
    given = parser.parse_args()
    settings = load_settings()
    configure_logging(settings.log_format)
    try:
        specs = [BucketSpec.parse(text) for text in given.bucket]
        ensure_buckets(settings, specs, wait_seconds=given.wait_seconds, allow_unsupported=given.allow_unsupported)
    except SlipwayError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
