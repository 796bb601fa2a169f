"""Slipway's loader: whole uint8 batches out of the mapped shards, cropped and flipped, in the order that training plans them."""

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.turns import Turns
from slipway.config import TrainConfig
from slipway.data.dataset import Dataset
from slipway.data.loaders import open_batches
from slipway.tasks.registry import load_training_task
from slipway.training.sampling import count_steps, plan_epoch, take_share


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--side", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--repeats", type=int, required=True)
    parser.add_argument("--turns", required=True)
    options = parser.parse_args()

    dataset = Dataset.open(options.dataset)
    task = load_training_task(dataset.manifest.task)
    device = torch.device("cpu")
    split = task.load_split(dataset, "train")
    batches = open_batches(split, device)
    config = TrainConfig(batch_size=options.batch_size, crop_padding=options.side // 8, flip=True)
    num_steps = count_steps(split.num_rows, config.batch_size, 1)
    generator = torch.Generator(device)
    turns = Turns(options.turns)
    epoch = 0
    while True:
        turns.wait()
        num_images = 0
        for _ in range(options.repeats):
            for rows in plan_epoch(split.num_rows, num_steps, config.seed, epoch):
                batch, _targets = batches.gather(take_share(rows, 0, 1))
                augmented = task.augment(batch, config, generator)["image"]
                assert augmented.dtype is torch.uint8
                assert augmented.shape[1:3] == (options.side, options.side)
                num_images += len(augmented)
            epoch += 1
        turns.done(images=num_images)


if __name__ == "__main__":
    np.seterr(all="raise")
    main()
