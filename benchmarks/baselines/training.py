"""The training loop of every tutorial: ImageFolder, DataLoader with two workers, float32, SGD, one process.

It trains the same networks, with the same batch size, optimizer and schedule, on the same samples as Slipway's side; it
validates after each epoch, keeps the best weights, and tests them at the end.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import models, transforms
from torchvision.datasets import ImageFolder

from benchmarks.turns import Turns

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
TO_INPUT = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
AUGMENT = [transforms.RandomCrop(32, padding=4, padding_mode="reflect"), transforms.RandomHorizontalFlip()]


def build_resnet18(num_classes: int) -> nn.Module:
    """torchvision's, with the stem that everybody gives it for small images."""
    network: nn.Module = models.resnet18(num_classes=num_classes)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


def build_simple_cnn(num_classes: int) -> nn.Module:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    features = [*block(3, 32), nn.MaxPool2d(2), *block(32, 64), nn.MaxPool2d(2), *block(64, 128)]
    return nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, num_classes))


BUILD = {"resnet18": build_resnet18, "simple-cnn": build_simple_cnn}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--architecture", choices=BUILD, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--turns", required=True)
    options = parser.parse_args()

    torch.manual_seed(0)
    train = ImageFolder(options.folder / "train", transforms.Compose([*AUGMENT, *TO_INPUT]))
    validation = ImageFolder(options.folder / "validation", transforms.Compose(TO_INPUT))
    test = ImageFolder(options.folder / "test", transforms.Compose(TO_INPUT))
    train_loader = DataLoader(train, options.batch_size, shuffle=True, num_workers=2, persistent_workers=True)
    validation_loader = DataLoader(validation, options.batch_size, num_workers=2, persistent_workers=True)

    network = BUILD[options.architecture](len(train.classes))
    optimizer = torch.optim.SGD(network.parameters(), options.learning_rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs * len(train_loader))
    options.work.mkdir(parents=True, exist_ok=True)
    best_path, best_accuracy = options.work / "best.pt", -1.0
    turns = Turns(options.turns)
    for _ in range(options.epochs):
        turns.wait()
        network.train()
        for images, targets in train_loader:
            optimizer.zero_grad()
            loss = functional.cross_entropy(network(images), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        accuracy = evaluate(network, validation_loader)
        if accuracy >= best_accuracy:
            best_accuracy = accuracy
            torch.save(network.state_dict(), best_path)
        turns.done(images=len(train), accuracy=accuracy)

    turns.wait()
    network.load_state_dict(torch.load(best_path))
    accuracy = evaluate(network, DataLoader(test, options.batch_size, num_workers=2))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    turns.done(images=len(test), accuracy=accuracy, parameters=parameters)


@torch.no_grad()
def evaluate(network: nn.Module, loader: DataLoader[tuple[Tensor, Tensor]]) -> float:
    network.eval()
    right = total = 0
    for images, targets in loader:
        right += int((network(images).argmax(1) == targets).sum())
        total += len(targets)
    return right / total


if __name__ == "__main__":
    main()
