"""ImageFolder and DataLoader with two workers, as torchvision's and PyTorch's documentation show them.

32 px: random crop of the padded image, flip, to tensor (the usual CIFAR-10 recipe). 224 px: random resized crop, flip, to
tensor (the ImageNet example). Workers are kept from epoch to epoch, which the examples do not do: it only helps the baseline.
"""

import argparse

from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.turns import Turns

TRANSFORMS = {
    32: [transforms.RandomCrop(32, padding=4, padding_mode="reflect"), transforms.RandomHorizontalFlip(), transforms.ToTensor()],
    224: [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.ToTensor()],
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--side", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--turns", required=True)
    options = parser.parse_args()

    dataset = ImageFolder(options.folder, transforms.Compose(TRANSFORMS[options.side]))
    loader = DataLoader(dataset, batch_size=options.batch_size, shuffle=True, num_workers=2, persistent_workers=True)
    turns = Turns(options.turns)
    while True:
        turns.wait()
        num_images = 0
        for images, _targets in loader:
            num_images += len(images)
        turns.done(images=num_images)


if __name__ == "__main__":
    main()
