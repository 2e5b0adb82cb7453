"""What decoding a random window alone saves, against the whole image: ratios of processor time, interleaved.

    .venv/bin/python benchmarks/bench_regions.py FOLDER [--size 299] [--threads N] [--rounds 9]

FOLDER holds class folders of photographs. Both ways read the same files and resize the same windows to the same size;
their pixels are compared first and must be bit-exact. Prints a table for a README.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from rethink_fast.data import DataOptions, layout
from rethink_fast.data.dali import Decoder, whole
from rethink_fast.data.image_files import ImageFiles
from rethink_fast.data.jpeg_images import JpegImages
from rethink_fast.data.tree import FolderTree
from rethink_fast.env import cores
from rethink_fast.files import user_path

BATCH = 50
SEED = 0


def decode_whole(images: JpegImages, threads: int) -> None:
    """Make the rival: all of the image is decoded, then cut to the window; everything else is the same."""
    from nvidia.dali import fn

    def graph(encoded: Any, start: Any, shape: Any) -> Any:
        return fn.slice(whole(encoded), start=start, shape=shape, axis_names="HW")

    images._crop_decoder = Decoder(graph, threads=threads, windows=True)


def seconds(images: Iterator[Any], read: list[torch.Tensor] | None = None) -> float:
    """Processor seconds of all threads to go through, keeping the images where a list is given."""
    start = time.process_time()
    for pixels, _ in images:
        if read is not None:
            read.append(pixels.clone())
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=user_path)
    parser.add_argument("--size", type=int, default=299)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    at, files, _ = layout.find(FolderTree(given.folder)).train
    options = DataOptions(size=given.size, workers=given.threads)
    images, rival = (JpegImages(ImageFiles(given.folder / at, files), options) for _ in range(2))
    decode_whole(rival, given.threads)
    batches = torch.arange(len(files)).split(BATCH)
    ways: dict[str, Callable[[int], Iterator[Any]]] = {
        "window alone": lambda epoch: images.read_crops(batches, seed=SEED, epoch=epoch),
        "whole image, then the window": lambda epoch: rival.read_crops(batches, seed=SEED, epoch=epoch),
        "central 87.5 % (no augmentation)": lambda epoch: images.read(batches),
    }
    kept: dict[str, list[torch.Tensor]] = {name: [] for name in ways}
    for name, way in ways.items():
        seconds(way(0), kept[name])
    first, second, _ = (torch.cat(read) for read in kept.values())
    assert torch.equal(first, second), "the two ways give other pixels"
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(given.rounds):
        for name in list(ways) if turn % 2 else list(ways)[::-1]:
            times[name].append(seconds(ways[name](turn)))
    print(f"{len(files)} images, {given.size} px, {given.threads} threads; {given.rounds} rounds interleaved\n")
    print("| decoded | processor ms an image | times the window alone, median (20 % to 80 %) |\n| --- | ---: | ---: |")
    for name, taken in times.items():
        ratios = sorted(b / a for a, b in zip(times["window alone"], taken, strict=True))
        low, high = (ratios[round(q * (len(ratios) - 1))] for q in (0.2, 0.8))
        milliseconds = 1000 * statistics.median(taken) / len(files)
        print(f"| {name} | {milliseconds:.2f} | {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f}) |")


if __name__ == "__main__":
    main()
