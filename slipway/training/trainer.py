"""The training loop: the same on one process and on many, on CPU and on GPU, from the start and from any checkpoint.

What is random follows from (seed, epoch, step, rank), what is scheduled from (epoch, step, history): the weights and the
optimizer are the only state, so a training that goes on from a checkpoint is the one that was interrupted, bit for bit.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from slipway.config import TrainConfig
from slipway.data.dataset import Dataset
from slipway.data.loaders import open_batches
from slipway.errors import CheckpointError, ConfigError, NonFiniteLossError
from slipway.models.info import model_info
from slipway.tasks.task import Task
from slipway.tasks.training_task import TrainingTask
from slipway.training.callbacks import Callback
from slipway.training.checkpoints import Checkpoint
from slipway.training.distributed import Workers
from slipway.training.history import EpochReport
from slipway.training.job import TrainingJob
from slipway.training.optimizers import build_optimizer, set_learning_rate
from slipway.training.precision import autocast, choose_precision
from slipway.training.sampling import count_steps, plan_epoch, take_share
from slipway.training.schedules import learning_rate_multiplier
from slipway.training.seeding import Purpose, derive_seed, seed_torch
from slipway.training.threads import limit_threads

CHECK_STEPS = 16
"""Batches between two looks at the losses: each look waits for the device, and for the other processes."""
_EVALUATION_FACTOR = 4
"""Validation keeps no gradients, so that its batches may be larger."""


class Trainer:
    """One model being trained, in one of the processes that train it."""

    def __init__(
        self,
        job: TrainingJob,
        *,
        dataset: Dataset,
        task: Task,
        training_task: TrainingTask,
        workers: Workers,
        callbacks: Sequence[Callback],
    ) -> None:
        config = job.train
        self.workers = workers
        self.history: list[EpochReport] = []
        self.epoch = 0
        self._config = config
        self._task = task
        self._training_task = training_task
        self._callbacks = callbacks
        self.fingerprint = job.fingerprint(dataset.manifest.dataset_id)
        self._stopped = False
        self._step = 0
        self._train_seconds = 0.0

        train = training_task.load_split(dataset, "train")
        self._num_rows = train.num_rows
        self._num_batches = count_steps(train.num_rows, config.batch_size, workers.size)
        self._losses = torch.zeros(self._num_batches, dtype=torch.float64, device=workers.device)
        self._train_batches = open_batches(train, workers.device)
        validation = training_task.load_split(dataset, "validation")
        self._validation_targets = validation.targets
        if validation.num_rows < workers.size:
            raise ConfigError(
                f"the validation split has {validation.num_rows} samples, too few for {workers.size} processes. "
                "Train with fewer processes, add data, or raise data.validation_fraction."
            )
        self._validation_batches = open_batches(validation, workers.device)

        seed_torch(config.seed, Purpose.WEIGHTS)
        self._preprocessor = training_task.build_preprocessor(dataset.manifest).to(workers.device)
        self.network = training_task.build_network(dataset.manifest, job.model).to(workers.device)
        self.info = model_info(self.network, self._example_input())
        dtype, self.precision_reason = choose_precision(config, workers.device, self.info.macs)
        self._dtype = dtype
        self.num_threads = limit_threads(workers.device, self.info.macs * config.batch_size // workers.size)
        if config.channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)
        self._optimizer = build_optimizer(self.network, config)
        # A static graph and no_sync exclude each other in DDP's reducer.
        self._wrapped = workers.wrap(self.network, static_graph=config.accumulate_steps == 1)

    @property
    def precision(self) -> str:
        """The format that the network computes in."""
        return str(self._dtype).removeprefix("torch.")

    @property
    def num_epochs(self) -> int:
        """As configured."""
        return self._config.epochs

    @property
    def num_rows(self) -> int:
        """Samples in the train split."""
        return self._num_rows

    @property
    def higher_is_better(self) -> bool:
        """Direction of the validation score."""
        return self._task.primary_metric.higher_is_better

    @property
    def optimizer_step(self) -> int:
        """Optimizer steps taken in the epoch that is under way."""
        return -(-self._step // self._config.accumulate_steps)

    @property
    def epoch_done(self) -> bool:
        """Whether all batches of the epoch that is under way have been trained on."""
        return self._step == self._num_batches

    def stop(self) -> None:
        """End training after the present epoch."""
        self._stopped = True

    def run(self) -> None:
        """Train until the configured number of epochs, or until a callback asks to stop.

        Raises:
            NonFiniteLossError: a loss became NaN or infinite; no checkpoint holds its weights.
        """
        for callback in self._callbacks:
            callback.on_start(self)
        while self.epoch < self._config.epochs and not self._stopped:
            self._run_epoch()
            for callback in self._callbacks:
                callback.on_epoch_end(self)

    def take_checkpoint(self) -> Checkpoint:
        """The present state; all processes must call it together."""
        self.workers.average_buffers(self.network)
        losses = self._check_losses(0)
        return Checkpoint(
            fingerprint=self.fingerprint,
            epoch=self.epoch,
            step=self._step,
            network=self.network.state_dict(),
            optimizer=self._optimizer.state_dict(),
            rng=torch.get_rng_state(),
            losses=losses.cpu(),
            train_seconds=self._train_seconds,
            history=self.history,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from where the checkpoint was taken.

        Raises:
            CheckpointError: it was taken inside an epoch that this number of processes divides into other batches.
        """
        if checkpoint.step and len(checkpoint.losses) != self._num_batches:
            raise CheckpointError(
                f"the checkpoint was taken inside an epoch of {len(checkpoint.losses)} batches, which {self.workers.size} "
                f"process(es) divide into {self._num_batches}. Go on with the number of processes that it was made with."
            )
        self.network.load_state_dict(checkpoint.network)
        self._optimizer.load_state_dict(checkpoint.optimizer)
        torch.set_rng_state(checkpoint.rng)
        self.epoch = checkpoint.epoch
        self.history = list(checkpoint.history)
        self._step = checkpoint.step
        self._train_seconds = checkpoint.train_seconds
        if checkpoint.step and self.workers.is_main:
            self._losses.copy_(checkpoint.losses)

    def _run_epoch(self) -> None:
        start = time.monotonic()
        rate = self._train_epoch()
        train_loss = float(self._check_losses(0).sum()) / self._num_rows
        self.workers.average_buffers(self.network)
        validation_loss, validation_score = self._validate()
        report = EpochReport(
            epoch=self.epoch + 1,
            train_loss=train_loss,
            validation_loss=validation_loss,
            validation_score=validation_score,
            learning_rate=rate,
            seconds=time.monotonic() - start,
            samples_per_second=self._num_rows / self._train_seconds,
        )
        self.history.append(report)
        self.epoch += 1
        self._step, self._train_seconds = 0, 0.0
        self._losses.zero_()

    def _train_epoch(self) -> float:
        """Train on the batches that are left of the epoch; the last step's learning rate."""
        plan = plan_epoch(self._num_rows, self._num_batches, self._config.seed, self.epoch)
        self._wrapped.train()
        start, seconds_before, checked = time.monotonic(), self._train_seconds, self._step
        rate = self._learning_rate()
        while not self.epoch_done:
            rate = self._learning_rate()
            group = plan[self._step : self._step + self._config.accumulate_steps]
            self._take_step(group, rate)
            if self._step - checked >= CHECK_STEPS or self.epoch_done:
                self._check_losses(checked)
                checked = self._step
            self._train_seconds = seconds_before + time.monotonic() - start
            for callback in self._callbacks:
                callback.on_step_end(self)
        return rate

    def _take_step(self, group: Sequence[NDArray[np.int64]], rate: float) -> None:
        """One optimizer step over the batches of `group`: their samples weigh the same, on whichever process they are."""
        num_samples = sum(len(rows) for rows in group)
        self._optimizer.zero_grad(set_to_none=True)
        for index, rows in enumerate(group):
            share = take_share(rows, self.workers.rank, self.workers.size)
            with self._synchronisation(last=index == len(group) - 1):
                loss = self._compute_loss(share)
                # DDP averages over processes; what is wanted is the mean over samples.
                (loss * (len(share) * self.workers.size / num_samples)).backward()  # type: ignore[no-untyped-call]
            self._losses[self._step] = loss.detach() * len(share)
            self._step += 1
        if self._config.clip_norm > 0.0:
            nn.utils.clip_grad_norm_(self.network.parameters(), self._config.clip_norm)
        set_learning_rate(self._optimizer, rate)
        self._optimizer.step()

    def _compute_loss(self, rows: NDArray[np.int64]) -> Tensor:
        position = (self.epoch, self._step, self.workers.rank)
        seed_torch(self._config.seed, Purpose.NETWORK, *position)
        generator = torch.Generator(self.workers.device)
        generator.manual_seed(derive_seed(self._config.seed, Purpose.AUGMENT, *position))
        batch, targets = self._train_batches.gather(rows)
        output = self._forward(self._wrapped, self._training_task.augment(batch, self._config, generator))
        return self._training_task.compute_loss(output, targets, self._config.label_smoothing)

    def _forward(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        prepared = self._preprocessor(batch)
        if not self._config.channels_last:
            prepared = prepared.contiguous()
        with autocast(self.workers.device, self._dtype):
            output: Tensor = network(prepared)
        return output.float()

    def _synchronisation(self, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Gradients travel between processes once a step, with its last batch."""
        if last or self.workers.size == 1:
            return contextlib.nullcontext()
        no_sync: contextlib.AbstractContextManager[Any] = self._wrapped.no_sync()  # type: ignore[operator]
        return no_sync

    @torch.inference_mode()
    def _validate(self) -> tuple[float, float]:
        """Loss and primary metric over the validation split, of which each process evaluates its share."""
        self.network.eval()
        mine = np.array_split(np.arange(len(self._validation_targets)), self.workers.size)[self.workers.rank]
        batch_size = _EVALUATION_FACTOR * self._config.batch_size
        outputs: dict[str, list[NDArray[Any]]] = {}
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.workers.device)
        for start in range(0, len(mine), batch_size):
            rows = mine[start : start + batch_size]
            batch, targets = self._validation_batches.gather(rows)
            output = self._forward(self.network, batch)
            loss_sum += self._training_task.compute_loss(output, targets, 0.0) * len(rows)
            for name, tensor in self._training_task.to_outputs(output).items():
                outputs.setdefault(name, []).append(tensor.cpu().numpy())
        loss = float(self.workers.add_up(loss_sum)) / len(self._validation_targets)
        if not np.isfinite(loss):
            raise NonFiniteLossError(f"the validation loss became {loss} after epoch {self.epoch + 1}. {_REMEDY}")
        collected = {name: self.workers.collect(np.concatenate(parts)) for name, parts in outputs.items()}
        return loss, float(self._task.score_samples(collected, self._validation_targets).mean())

    def _check_losses(self, start: int) -> Tensor:
        """The losses of all processes from batch `start` of the epoch on."""
        losses = self.workers.add_up(self._losses[start:])
        wrong = (~torch.isfinite(losses)).nonzero()
        if len(wrong):
            step = start + int(wrong[0])
            raise NonFiniteLossError(
                f"the training loss became {float(losses[step - start])} in epoch {self.epoch + 1}, "
                f"step {step + 1} of {self._num_batches}. {_REMEDY}"
            )
        return losses

    def _learning_rate(self) -> float:
        accumulate = self._config.accumulate_steps
        steps_per_epoch = -(-self._num_batches // accumulate)
        step = self.epoch * steps_per_epoch + self._step // accumulate
        sign = 1.0 if self.higher_is_better else -1.0
        scores = [sign * report.validation_score for report in self.history]
        return self._config.learning_rate * learning_rate_multiplier(self._config, step, steps_per_epoch, scores)

    def _example_input(self) -> Tensor:
        batch, _ = self._train_batches.gather(np.arange(1))
        prepared: Tensor = self._preprocessor(batch)
        return prepared


def make_deterministic(config: TrainConfig) -> None:
    """Set what torch decides for the whole process."""
    torch.set_deterministic_debug_mode("error" if config.deterministic else "default")
    torch.backends.cudnn.benchmark = not config.deterministic
    # Deterministic mode would fill every fresh tensor with NaN; nothing here reads one before writing it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


_REMEDY = "Lower train.learning_rate, lengthen train.warmup_epochs, set train.clip_norm, or compute in train.precision=float32."
