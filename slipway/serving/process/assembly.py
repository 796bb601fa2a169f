"""From the options to the parts of the predictor."""

from typing import TYPE_CHECKING

from slipway.errors import ConfigError
from slipway.serving.http.app import Application
from slipway.serving.http.app_options import AppOptions
from slipway.serving.http.messages import App
from slipway.serving.inference.batching import BatchOptions
from slipway.serving.inference.model import ModelSlot
from slipway.serving.observe.observers import Observation
from slipway.serving.process.access import Access, GuardedApp
from slipway.serving.process.options import ServerOptions
from slipway.serving.wire.rows import RowPolicy

if TYPE_CHECKING:
    from slipway.serving.grpc.server import GrpcServer


def make_batch_options(options: ServerOptions) -> BatchOptions:
    """What the slot is made with."""
    return BatchOptions(
        max_batch_size=options.max_batch_size,
        max_queue_samples=options.max_queue_samples,
        max_queue_bytes=options.max_queue_bytes,
        num_workers=options.workers,
    )


def make_app_options(options: ServerOptions, observation: Observation, access: Access) -> AppOptions:
    """What all protocols have in common."""
    metrics, tracing = observation.metrics, observation.tracing
    return AppOptions(
        max_body_bytes=options.max_body_bytes,
        default_deadline_seconds=options.deadline_seconds,
        rows=RowPolicy(unknown_columns=options.unknown_columns, unknown_categories=options.unknown_categories),
        docs=options.docs,
        guards=access.guards,
        begin_trace=None if tracing is None else tracing.begin,
        metrics=None if metrics is None else metrics.render,
    )


def make_app(options: ServerOptions, slot: ModelSlot, observation: Observation, access: Access) -> App:
    """The ASGI application with all that stands before it."""
    app = Application(slot, make_app_options(options, observation, access), observation.observers)
    return app if access.is_open else GuardedApp(app, access, observation.refusals)


def make_grpc(options: ServerOptions, slot: ModelSlot, observation: Observation, access: Access) -> "GrpcServer":
    """The same over gRPC; to be called on the event loop.

    Raises:
        ConfigError: gRPC is not installed.
    """
    try:
        from slipway.serving.grpc.server import GrpcServer
    except ImportError as error:
        raise ConfigError(
            f"--grpc-port needs gRPC, which is not installed here ({error}); accepted: -1, or the extra serve-grpc."
        ) from None

    return GrpcServer(options, make_app_options(options, observation, access), slot, access, observation)
