"""One row for each data set of small images, from which every list of them is derived. (ImageNet has no row.)"""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from typing import Literal


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DIGITS = tuple(string.digits)
CIFAR10 = _words("airplane automobile bird cat deer dog frog horse ship truck")
CIFAR100 = _words("""
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
""")
CIFAR100_COARSE = _words("""
    aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture
    insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores
    medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2
""")
KUZUSHIJI = _words("o ki su tsu na ha ma ya re wo")
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
MERGED = (*string.digits, *string.ascii_uppercase, *"abdefghnqrt")
"""EMNIST's classes where upper and lower case look alike."""

TORONTO = "https://www.cs.toronto.edu/~kriz/"
STANFORD = "http://ufldl.stanford.edu/housenumbers/"


@dataclass(frozen=True)
class CifarFiles:
    """Batches of 32 x 32 colour images, in the authors' python or binary form.

    train, test: names of the batches, without the ending of the binary form.
    folders: of the python and of the binary form.
    others: files next to them that are not read.
    key: of the labels in the python form.
    label_at, label_bytes: in the binary form, which byte of a record is the label, and how many come before the image.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    folders: tuple[str, str]
    others: tuple[str, ...]
    key: str
    label_at: int = 0
    label_bytes: int = 1


@dataclass(frozen=True)
class IdxFiles:
    """Four IDX files of 28 x 28 grey images: training images and labels, test images and labels.

    below: the folder in which torchvision and others put them.
    first_label: the label of the first class.
    transposed: whether rows and columns are exchanged in the files.
    """

    names: tuple[str, str, str, str]
    below: str
    first_label: int = 0
    transposed: bool = False


@dataclass(frozen=True)
class MatFiles:
    """Two MATLAB files of 32 x 32 colour images.

    train, test: their names.
    others: files next to them that are not read.
    """

    train: str
    test: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class SmallSet:
    """A data set of small images.

    name: on the command line and in records.
    title: in messages.
    train, test: how many images it has.
    folder: where --data auto looks, which data sets of the same files share.
    downloads: addresses of the official files and their published MD5 sums; none where that is left to people.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    train: int
    test: int
    folder: str
    files: CifarFiles | IdxFiles | MatFiles
    downloads: dict[str, str] = field(default_factory=dict)

    @property
    def reader(self) -> Literal["cifar", "idx", "mat"]:
        """The reader of its files: cifar10.py, mnist.py or svhn.py."""
        if isinstance(self.files, MatFiles):
            return "mat"
        return "cifar" if isinstance(self.files, CifarFiles) else "idx"

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, and channels."""
        return (28, 1) if self.reader == "idx" else (32, 3)


_CIFAR10 = CifarFiles(
    tuple(f"data_batch_{i}" for i in range(1, 6)),
    ("test_batch",),
    ("cifar-10-batches-py", "cifar-10-batches-bin"),
    ("batches.meta", "batches.meta.txt", "readme.html"),
    "labels",
)


def _cifar100(name: str, classes: tuple[str, ...], key: str, label_at: int) -> SmallSet:
    others = ("meta", "file.txt~", "fine_label_names.txt", "coarse_label_names.txt")
    folders = ("cifar-100-python", "cifar-100-binary")
    files = CifarFiles(("train",), ("test",), folders, others, key, label_at, 2)
    downloads = {TORONTO + "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85"}
    return SmallSet(name, "CIFAR-100", classes, 50_000, 10_000, "cifar100", files, downloads)


def _idx(prefix: str = "", test: str = "t10k") -> tuple[str, str, str, str]:
    images, labels = "images-idx3-ubyte", "labels-idx1-ubyte"
    return (
        f"{prefix}train-{images}",
        f"{prefix}train-{labels}",
        f"{prefix}{test}-{images}",
        f"{prefix}{test}-{labels}",
    )


def _mnist(name: str, title: str, classes: tuple[str, ...], below: str, server: str, *md5: str) -> SmallSet:
    names = _idx()
    downloads = {f"{server}{file}.gz": sum for file, sum in zip(names, md5, strict=True)}
    return SmallSet(name, title, classes, 60_000, 10_000, name, IdxFiles(names, below), downloads)


def _emnist(split: str, classes: tuple[str, ...], train: int, test: int, first_label: int = 0) -> SmallSet:
    files = IdxFiles(_idx(f"emnist-{split}-", "test"), "EMNIST", first_label, transposed=True)
    return SmallSet(f"emnist-{split}", f"EMNIST {split}", classes, train, test, "emnist", files)


REGISTRY = (
    SmallSet(
        *("cifar10", "CIFAR-10", CIFAR10, 50_000, 10_000, "cifar10", _CIFAR10),
        {TORONTO + "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"},
    ),
    _cifar100("cifar100", CIFAR100, "fine_labels", 1),
    _cifar100("cifar100-coarse", CIFAR100_COARSE, "coarse_labels", 0),
    SmallSet(
        *("svhn", "SVHN", DIGITS, 73_257, 26_032, "svhn"),
        MatFiles("train_32x32.mat", "test_32x32.mat", ("extra_32x32.mat",)),
        {
            STANFORD + "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
            STANFORD + "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
        },
    ),
    _mnist(
        *("mnist", "MNIST", DIGITS, "MNIST", "https://ossci-datasets.s3.amazonaws.com/mnist/"),
        *("f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432"),
        *("9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c"),
    ),
    _mnist(
        *("fashion-mnist", "Fashion-MNIST", FASHION, "FashionMNIST"),
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        *("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"),
        *("bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"),
    ),
    _mnist(
        *("kmnist", "Kuzushiji-MNIST", KUZUSHIJI, "KMNIST"),
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        *("bdb82020997e1d708af4cf47b453dcf7", "e144d726b3acfaa3e44228e80efcd344"),
        *("5c965bf0a639b31b8f53240b1b52f4d7", "7320c461ea6c1c855c0b718fb2a4b134"),
    ),
    _emnist("balanced", MERGED, 112_800, 18_800),
    _emnist("byclass", (*string.digits, *string.ascii_uppercase, *string.ascii_lowercase), 697_932, 116_323),
    _emnist("bymerge", MERGED, 697_932, 116_323),
    _emnist("digits", DIGITS, 240_000, 40_000),
    _emnist("letters", tuple(string.ascii_uppercase), 124_800, 20_800, first_label=1),
    _emnist("mnist", DIGITS, 60_000, 10_000),
)

SMALL_SETS = {row.name: row for row in REGISTRY}
DATASETS = ("imagenet", *SMALL_SETS)
OWN = "own"
"""What a run calls a data set of one's own: given in Python, or a pack."""
