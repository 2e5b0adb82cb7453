"""The loop to beat: CIFAR-10 with random labels as the widespread scripts train it, one sample at a time in Python.

`python -m benchmarks.reference_loop --data PATH [--model mlp_1x512] [--epochs 1] [--workers N]`

A map-style dataset makes a PIL image of each sample and takes it through three transforms; a shuffling DataLoader
collates; the eager float32 step reads loss and accuracy back into meters; an evaluation pass follows each epoch. The
network, its initial weights, the batch size, the optimizer and every value of the input are those of the package, and
nothing is slower than those scripts have it. It is what `bench_engine` measures the engine against.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from rethink_fast.data import DataOptions, load_dataset
from rethink_fast.data import Dataset as Source
from rethink_fast.env import choose_device, cores
from rethink_fast.errors import UserError
from rethink_fast.models import MODELS, build_model
from rethink_fast.train.device import synchronize

SIZE, CLASSES, BATCH = 28, 10, 128
LEARNING_RATE, MOMENTUM = 0.01, 0.9
TRIAL_SECONDS = 3.0


class CenterCrop:
    """Cut the middle out of a PIL image."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: Image.Image) -> Image.Image:
        left, top = (image.width - self.size) // 2, (image.height - self.size) // 2
        return image.crop((left, top, left + self.size, top + self.size))


class ToTensor:
    """A PIL image as a float32 tensor [C, H, W] in [0, 1]."""

    def __call__(self, image: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)


class Whiten:
    """Give one image mean 0 and standard deviation 1, the latter at least 1 / sqrt(elements)."""

    def __call__(self, image: Tensor) -> Tensor:
        # Two calls: torch.std_mean is slower than both.
        return (image - image.mean()) / image.std(correction=0).clamp_min(image.numel() ** -0.5)


class Compose:
    """One transform after another."""

    def __init__(self, *transforms: Callable[[Any], Any]) -> None:
        self.transforms = transforms

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """images: uint8 [N, 32, 32, 3]; labels: integers [N]."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, [int(label) for label in labels]
        self.transform = Compose(CenterCrop(SIZE), ToTensor(), Whiten())

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[i])), self.labels[i]


def random_labels(n: int, *, seed: int = 0) -> np.ndarray:
    """One uniform draw over the classes for each sample: int64 [n]."""
    return np.random.default_rng(seed).integers(0, CLASSES, n)


class PowerMonitor:
    """A running mean over samples."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def update(self, value: float, n: int) -> None:
        self.total += value * n
        self.count += n

    @property
    def mean(self) -> float:
        return self.total / max(1, self.count)


class ReferenceLoop:
    """Network, optimizer, loader and meters.

    images: uint8 [N, 32, 32, 3]; labels: integers [N]; workers: processes of the DataLoader, 0 for none.
    loss, accuracy: meters of the running epoch.
    """

    def __init__(
        self,
        model_name: str,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        batch_size: int = BATCH,
        workers: int = 0,
        device: torch.device | None = None,
        seed: int = 0,
    ) -> None:
        self.device = device if device is not None else torch.device("cpu")
        torch.manual_seed(seed)
        self.model = build_model(model_name, num_classes=CLASSES, channels=3, size=(SIZE, SIZE)).to(self.device)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
        pinned = self.device.type == "cuda"
        dataset = ImageDataset(images, labels)
        self.train_loader = DataLoader(dataset, batch_size, shuffle=True, num_workers=workers, pin_memory=pinned)
        self.eval_loader = DataLoader(dataset, batch_size, num_workers=workers, pin_memory=pinned)
        self.loss, self.accuracy = PowerMonitor(), PowerMonitor()

    def step(self, inputs: Tensor, labels: Tensor) -> None:
        """One update, its loss and accuracy read back into the meters."""
        inputs, labels = self._to_device(inputs, labels)
        outputs = self.model(inputs)
        loss = self.criterion(outputs, labels)
        self.loss.update(loss.item(), len(labels))
        self.accuracy.update((outputs.argmax(1) == labels).float().mean().item(), len(labels))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def epoch(self) -> Iterator[int]:
        """Train on every sample once; after each step gives the number of images in it."""
        self.loss, self.accuracy = PowerMonitor(), PowerMonitor()
        self.model.train()
        for inputs, labels in self.train_loader:
            self.step(inputs, labels)
            yield len(labels)

    def evaluate(self) -> tuple[float, float]:
        """Mean loss and accuracy (a fraction) over every sample, in eval mode."""
        loss, accuracy = PowerMonitor(), PowerMonitor()
        self.model.eval()
        with torch.no_grad():
            for inputs, labels in self.eval_loader:
                inputs, labels = self._to_device(inputs, labels)
                outputs = self.model(inputs)
                loss.update(self.criterion(outputs, labels).item(), len(labels))
                accuracy.update((outputs.argmax(1) == labels).float().mean().item(), len(labels))
        return loss.mean, accuracy.mean

    def _to_device(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return inputs.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


@dataclass(frozen=True)
class Measured:
    """images_per_second: over train_seconds, without evaluation. losses: the mean over each epoch, as seen in training.

    train_loss, train_accuracy: of the last evaluation pass; None where no epoch was completed.
    """

    images: int
    train_seconds: float
    eval_seconds: float
    images_per_second: float
    losses: tuple[float, ...]
    train_loss: float | None
    train_accuracy: float | None


def train(
    model_name: str,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = BATCH,
    workers: int = 0,
    device: torch.device | None = None,
    seed: int = 0,
) -> Measured:
    """Train for so many epochs, or for so many steps (which may end inside an epoch, without an evaluation then).

    images: uint8 [N, 32, 32, 3]; labels: integers [N]. Raises ValueError unless one of epochs and steps is given.
    """
    if (epochs is None) == (steps is None):
        raise ValueError(f"epochs {epochs} and steps {steps}: give one of the two")
    loop = ReferenceLoop(model_name, images, labels, batch_size=batch_size, workers=workers, device=device, seed=seed)
    if epochs is not None:
        steps = epochs * len(loop.train_loader)
    assert steps is not None
    done, seen, train_seconds, eval_seconds = 0, 0, 0.0, 0.0
    losses: list[float] = []
    scores: tuple[float, float] | tuple[None, None] = (None, None)
    while done < steps:
        start = time.perf_counter()
        for n in loop.epoch():
            done, seen = done + 1, seen + n
            if done == steps:
                break
        synchronize(loop.device)
        middle = time.perf_counter()
        train_seconds += middle - start
        losses.append(loop.loss.mean)
        if done % len(loop.train_loader) == 0:
            scores = loop.evaluate()
            eval_seconds += time.perf_counter() - middle
    return Measured(seen, train_seconds, eval_seconds, seen / train_seconds, tuple(losses), *scores)


def rate(steps: Iterator[int], seconds: float, device: torch.device) -> float:
    """Images/s of a loop that is run for so many seconds. steps: gives the images of each step once it is done."""
    synchronize(device)
    images, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        images += next(steps)
    synchronize(device)
    return images / (time.perf_counter() - start)


def endless(loop: ReferenceLoop) -> Generator[int, None, None]:
    """The steps of epoch after epoch, without evaluation."""
    while True:
        yield from loop.epoch()


def best_workers(
    model_name: str, images: np.ndarray, labels: np.ndarray, *, seconds: float, device: torch.device
) -> dict[int, float]:
    """Images/s over so many seconds with each worker count worth trying, the fastest first: 0, 1, 2 and one a core."""
    rates = {}
    for workers in sorted({0, 1, 2, cores()}):
        steps = endless(ReferenceLoop(model_name, images, labels, workers=workers, device=device))
        next(steps)  # what only the first step pays: the workers' start, memory, kernels
        rates[workers] = rate(steps, seconds, device)
        steps.close()
    return dict(sorted(rates.items(), key=lambda item: -item[1]))


def open_cifar10(data: str, device: torch.device, limit: int | None = None) -> Source:
    """CIFAR-10 by the package's reader, all of it or so many images."""
    return load_dataset("cifar10", DataOptions(data, max_samples=limit, device=device))


def training_images(source: Source) -> np.ndarray:
    """The training images: uint8 [N, 32, 32, 3]."""
    images, rows = next(iter(source.train.images.read([source.train.index])))
    return images[rows].cpu().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10, in any form that rethink-fast reads")
    parser.add_argument("--model", default="mlp_1x512", choices=list(MODELS))
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--workers", type=int, help="default: the fastest, measured")
    arguments = parser.parse_args()
    device = choose_device("auto")
    images = training_images(open_cifar10(arguments.data, torch.device("cpu")))
    labels, workers = random_labels(len(images)), arguments.workers
    if workers is None:
        rates = best_workers(arguments.model, images, labels, seconds=TRIAL_SECONDS, device=device)
        print("workers: " + ", ".join(f"{n} gives {rate:,.0f} images/s" for n, rate in rates.items()))
        workers = next(iter(rates))
    found = train(arguments.model, images, labels, epochs=arguments.epochs, workers=workers, device=device)
    print(
        f"{arguments.model}, {len(images):,} images, {arguments.epochs} epoch(s), {workers} worker(s), on {device}: "
        f"{found.images_per_second:,.0f} images/s in training ({found.train_seconds:.1f} s), "
        f"evaluation {found.eval_seconds:.1f} s; loss {found.train_loss:.4f}, accuracy {found.train_accuracy:.2%}"
    )


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"reference_loop: {error}")
