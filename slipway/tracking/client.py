"""Reaching MLflow: imported when it is first asked for, quiet, and with errors that say what to do."""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from slipway.errors import RegistryError
from slipway.settings import SQLITE_SCHEME, Settings, configure_mlflow_client, sqlite_uri

if TYPE_CHECKING:
    import sqlite3

    from mlflow.tracking import MlflowClient

_MESSAGE_CHARACTERS = 500


def open_client(settings: Settings) -> "MlflowClient":
    """A client of the tracking server and its registry. The first SQLite one makes the tables.

    Raises:
        RegistryError: MLflow is not installed, or the store cannot be opened.
    """
    configure_mlflow_client()
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise RegistryError(f"MLflow cannot be imported ({error}). Install it with `pip install 'slipway[tracking]'`.") from error
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    database = sqlite_path(settings)
    with translated_errors(settings, "opening the store"):
        if database is not None and not database.exists():
            _create_database(database)
        return MlflowClient(tracking_uri=settings.mlflow_tracking_uri, registry_uri=settings.mlflow_tracking_uri)


def _create_database(path: Path) -> None:
    """Make MLflow's tables beside `path`, then move them there: nobody finds half of them.

    MLflow's hundreds of migrations each wait for the disk; a file that is not in use yet need not (7 s became 2 s on a busy
    disk), and is flushed once at the end.
    """
    from mlflow.tracking import MlflowClient
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        staged = Path(folder) / path.name
        event.listen(Engine, "connect", _skip_syncs)
        try:
            MlflowClient(tracking_uri=sqlite_uri(staged), registry_uri=sqlite_uri(staged))
        finally:
            event.remove(Engine, "connect", _skip_syncs)
        with staged.open("rb") as stream:
            os.fsync(stream.fileno())
        with suppress(FileExistsError):  # another process was first
            os.link(staged, path)


def _skip_syncs(connection: "sqlite3.Connection", _record: object) -> None:
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA journal_mode = MEMORY")


def sqlite_path(settings: Settings) -> Path | None:
    """The SQLite file that MLflow keeps its records in; None where a server keeps them."""
    uri = settings.mlflow_tracking_uri
    return Path(unquote(uri.removeprefix(SQLITE_SCHEME))) if uri.startswith(SQLITE_SCHEME) else None


def is_empty(settings: Settings) -> bool:
    """Whether nothing can be registered yet, known without importing MLflow: the SQLite file does not exist."""
    database = sqlite_path(settings)
    return database is not None and not database.exists()


@contextmanager
def translated_errors(settings: Settings, action: str) -> Iterator[None]:
    """Turn MLflow's errors into a RegistryError that names the action, the server and the remedy."""
    try:
        yield
    except _expected_errors() as error:
        password = urlsplit(settings.mlflow_tracking_uri).password or ""
        message = (
            f"MLflow at {settings.mlflow_tracking_uri}: {action} failed: {_first_line(error)} "
            "Check MLFLOW_TRACKING_URI and that the server answers (`slipway doctor`)."
        )
        raise RegistryError(message.replace(f":{password}@", ":***@") if password else message) from error


def _expected_errors() -> tuple[type[Exception], ...]:
    from mlflow.exceptions import MlflowException

    if find_spec("sqlalchemy") is None:  # a client of a server does without
        return (MlflowException, OSError)
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, OSError)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0][:_MESSAGE_CHARACTERS]
