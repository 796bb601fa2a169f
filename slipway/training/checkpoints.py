"""Full states of a training on disk: written atomically, refused where they belong to another one."""

import hashlib
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slipway.errors import CheckpointError
from slipway.storage.files import write_bytes
from slipway.training.history import EpochReport

FORMAT_VERSION = 1
_DIGEST_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything that the rest of a training depends on.

    The schedule and the sampler have no state of their own: both follow from the seed, `epoch` and `step`.
    """

    fingerprint: str
    """Of data set and configuration; see `TrainingJob.fingerprint`."""
    epoch: int
    """Finished epochs."""
    step: int
    """Batches done in the epoch that is under way: the sampler's position."""
    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    rng: Tensor
    """State of torch's CPU generator."""
    losses: Tensor
    """Loss sum of each batch of the epoch that is under way, over all processes."""
    train_seconds: float
    """Spent on the batches of the epoch that is under way."""
    history: list[EpochReport]


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The bytes that stand in a checkpoint file: torch's archive, then its SHA-256, for torch does not notice altered weights."""
    content = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    content["history"] = [report.to_json() for report in checkpoint.history]
    stream = io.BytesIO()
    torch.save({"format_version": FORMAT_VERSION, **content}, stream)
    archive = stream.getvalue()
    return archive + hashlib.sha256(archive).digest()


def write_checkpoint(path: Path, content: bytes) -> None:
    """Replace the checkpoint at `path`; a reader, and a restart after a crash, see the old or the new one."""
    write_bytes(path, content)


def read_checkpoint(path: Path, fingerprint: str) -> Checkpoint:
    """Read the checkpoint at `path`.

    Raises:
        CheckpointError: it is missing, damaged, of another version, or of a training with another data set or configuration.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing. {_remedy(path)}")
    return decode_checkpoint(path.read_bytes(), fingerprint, path=path)


def decode_checkpoint(stored: bytes, fingerprint: str, *, path: Path) -> Checkpoint:
    """The inverse of `encode_checkpoint`, for bytes that stand in `path`; raises as `read_checkpoint` does."""
    archive = stored[:-_DIGEST_BYTES]
    if hashlib.sha256(archive).digest() != stored[-_DIGEST_BYTES:]:
        raise CheckpointError(f"{path} is damaged (it was truncated or altered since it was written). {_remedy(path)}")
    try:
        content: Mapping[str, Any] = torch.load(io.BytesIO(archive), map_location="cpu", weights_only=True)
        version = content["format_version"]
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"{path}: format version {version}; this Slipway reads version {FORMAT_VERSION}. {_remedy(path)}"
            )
        state = {field.name: content[field.name] for field in fields(Checkpoint)}
        history = [EpochReport(**entry) for entry in state.pop("history")]
        checkpoint = Checkpoint(**state, history=history)
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({str(error).splitlines()[0]}). {_remedy(path)}") from None
    if checkpoint.fingerprint != fingerprint:
        raise CheckpointError(f"{path} belongs to a training with another data set or configuration. {_remedy(path)}")
    return checkpoint


def _remedy(path: Path) -> str:
    return f"Remove {path.parent} to start anew, or train with the data set and configuration it was made with."
