"""The options of a run, frozen and typed. `defaults.resolve` fills in those that are None.

The command line is made from these classes: a field is an option, the string below it is its help, and its metadata
say what it affects and what range it has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from torch import nn

try:
    from cyclopts import Parameter
except ModuleNotFoundError:  # only the command line reads these annotations

    def Parameter(**_: Any) -> None:  # type: ignore[no-redef]
        """Annotate nothing."""


from .corruptions import alias_of
from .errors import UserError, in_range
from .files import user_path
from .models import name_of

DatasetName = Literal[
    "imagenet",
    "cifar10",
    "cifar100",
    "cifar100-coarse",
    "svhn",
    "mnist",
    "fashion-mnist",
    "kmnist",
    "emnist-balanced",
    "emnist-byclass",
    "emnist-bymerge",
    "emnist-digits",
    "emnist-letters",
    "emnist-mnist",
]
OwnName = Literal["own"]
"""What `Run` takes for a data set of one's own: given in Python, or a pack."""
RunDatasetName = Literal[DatasetName, OwnName]
CorruptionName = Literal["true", "partial", "random", "shuffled-pixels", "random-pixels", "gaussian"]
ModelName = Literal[
    "inception_v3",
    "inception_small",
    "inception_small_no_bn",
    "inception_small_quarter",
    "alexnet_small",
    "mlp_1x512",
    "mlp_3x512",
    "wrn_28_1",
]
AugmentName = Literal["crop", "random-resized-crop", "flip", "rotation", "color-jitter"]
PrecisionName = Literal["fp32", "bf16"]
RecipeName = Literal["paper", "fast", "authors-script"]
OptimizerName = Literal["sgd", "adam", "preconditioned-adam", "rmsprop"]
ScheduleName = Literal["exponential", "linear", "step"]
Affects = Literal["results", "length", "timings"]

PATH = Parameter(converter=lambda _, tokens: user_path(tokens[0].value))
"""Annotates every option that is a path, so that all are expanded and refused alike."""


def data_path(text: str) -> str:
    """Return --data with a path expanded, and auto and synthetic unchanged. Raises UserError."""
    return text if text in ("auto", "synthetic") else str(user_path(text))


DATA = Parameter(converter=lambda _, tokens: data_path(tokens[0].value))
"""Annotates the options that are auto, synthetic or a path."""


CORRUPTION = Parameter(converter=lambda _, tokens: alias_of(tokens[0].value))
"""Annotates --corruption, so that it takes both names of a randomization."""


MODEL = Parameter(converter=lambda _, tokens: tokens[0].value)
"""Annotates --model, which is a name on the command line."""


def _affects(what: Affects, least: float | None = None, most: float | None = None) -> dict[str, Any]:
    """Return the metadata of an option.

    what: "results", what a step or a score computes; "length", only when the run is evaluated and when it ends;
    "timings", no number but the timings, given the same samples and the same other options.
    least, most: the range of a number, both included.
    """
    return {"affects": what, "range": None if least is None else (least, most)}


@dataclass(frozen=True)
class Data:
    """Which images, from where."""

    data: Annotated[str, DATA] = field(default="auto", metadata=_affects("timings"))
    """A path; "auto" looks in the usual places and falls back on the synthetic set, saying so; or "synthetic"."""
    download: bool = field(default=False, metadata=_affects("timings"))
    """Fetch the official files first and check their checksums: of every set but ImageNet and EMNIST."""
    size: int | None = field(default=None, metadata=_affects("results", 1, 4096))
    """Height and width of the network's input, in pixels."""
    max_samples: int | None = field(default=None, metadata=_affects("results", 1, 2**31))
    """Train on at most this many images (a fixed choice among all), and test on at most as many."""
    workers: int | None = field(default=None, metadata=_affects("timings", 1, 1024))
    """Threads that read and decode images. Default: the number of cores."""
    on_decode_error: Literal["raise", "skip"] = field(default="raise", metadata=_affects("timings"))
    """What to do about an image that cannot be decoded: raise an error, or skip it and count it."""
    cache_images: Literal["auto", "device", "none"] = field(default="auto", metadata=_affects("timings"))
    """Where decoded images are kept. device: in its memory, decoded once; none: nowhere, decoded again in every epoch;
    auto: on the device where they fit in half of its free memory."""


@dataclass(frozen=True)
class Corruption:
    """What is done to the training set, as in section 2.1 of the paper."""

    corruption: Annotated[CorruptionName, CORRUPTION] = field(default="true", metadata=_affects("results"))
    """The randomization, also by its name in records, such as true_labels. Test labels are never corrupted."""
    probability: float | None = field(default=None, metadata=_affects("results", 0.0, 1.0))
    """With partial: the probability that a label is replaced by a random class."""
    seed: int = field(default=0, metadata=_affects("results", 0, 2**63 - 1))
    """Seed of the corruption, the order, the augmentation and the initial weights."""


@dataclass(frozen=True)
class Model:
    """The network."""

    model: Annotated[str | Callable[..., nn.Module] | None, MODEL] = field(default=None, metadata=_affects("results"))
    """The architecture: inception_v3, inception_small, inception_small_no_bn, inception_small_quarter, alexnet_small,
    mlp_1x512, mlp_3x512, wrn_28_1, timm/NAME, or your own as package.module:name, called with (num_classes, channels,
    (height, width))."""
    dropout: float = field(default=0.0, metadata=_affects("results", 0.0, 0.99))
    """Probability of dropping a feature before the classifier."""
    aux_head: bool = field(default=False, metadata=_affects("results"))
    """Give inception_v3 its auxiliary head, with weight 0.4 in the loss."""

    def __post_init__(self) -> None:
        if callable(self.model):
            object.__setattr__(self, "model", name_of(self.model))


@dataclass(frozen=True)
class Train:
    """How it is trained."""

    recipe: RecipeName | None = field(default=None, metadata=_affects("timings"))
    """A set of hyper-parameters. paper: to the letter of its appendix, for inception_v3 those of the TensorFlow package
    that it names; fast: the same network, data and corruption,
    memorised in the least time; authors-script: that of the script of the paper's first author, for wrn_28_1 and
    mlp_1x512. Options given as well take precedence, and the record lists them."""
    epochs: int | None = field(default=None, metadata=_affects("length", 1, 10**6))
    """Stop after this many epochs, whatever was reached. Default: 100."""
    target_accuracy: float = field(default=1.0, metadata=_affects("length", 0.0, 1.0))
    """Stop once the train accuracy, measured at the end of an epoch, reaches this."""
    target_loss: float | None = field(default=None, metadata=_affects("length", 0.0, 1e6))
    """Go on until the train loss of that epoch is at most this as well; 0.05 is the paper's rule, and 0 uses all
    epochs."""
    eval_interval: int | None = field(default=None, metadata=_affects("length", 1, 10**6))
    """Epochs between evaluations. The last epoch is always evaluated, and one whose online accuracy (that of its
    batches as they were seen in training) comes within 2 points of --target-accuracy; with --target-loss 0 only until
    every milestone of the record has been reached. Default: 1."""
    batch_size: int | None = field(default=None, metadata=_affects("results", 1, 2**20))
    """Images in a step, over all ranks where torchrun starts several."""
    optimizer: OptimizerName | None = field(default=None, metadata=_affects("results"))
    """sgd: with momentum, as in the paper; adam; preconditioned-adam, for the perceptrons; or rmsprop, with the
    constants of the TensorFlow Inception package (alpha 0.9, eps 1). Default: sgd."""
    lr: float | None = field(default=None, metadata=_affects("results", 1e-12, 1e6))
    """Learning rate at the start."""
    schedule: ScheduleName | None = field(default=None, metadata=_affects("results"))
    """exponential: the learning rate times --lr-decay after each epoch of the full data set; linear: down to zero at
    the end of the last of --epochs; step: times --lr-decay after half and after three quarters of --epochs. Default:
    exponential."""
    lr_decay: float | None = field(default=None, metadata=_affects("results", 1e-6, 1.0))
    """Factor on the learning rate after each epoch of the full data set (50,000 images of CIFAR-10, and so on); with
    --schedule step at its two steps. Default: 0.95, with --schedule step 0.1."""
    momentum: float | None = field(default=None, metadata=_affects("results", 0.0, 0.9999))
    """Momentum of SGD; the first beta of Adam. Default: 0.9."""
    weight_decay: float | None = field(default=None, metadata=_affects("results", 0.0, 1e3))
    """Weight decay on weights of convolutions and linear layers, not on biases or batch norm. Default: 0."""
    augment: tuple[AugmentName, ...] = field(default=(), metadata=_affects("results"))
    """Random augmentation of the training images, new each epoch; none by default, as in the paper's random runs.
    May be given several times: crop, flip and rotation are the paper's for CIFAR-10; random-resized-crop, flip and
    color-jitter together its preprocessing of ImageNet."""
    precision: PrecisionName | None = field(default=None, metadata=_affects("results"))
    """fp32, or bf16 mixed precision. Default: bf16 on a GPU, fp32 on a CPU."""
    compile: Literal["auto", "on", "off"] = field(default="auto", metadata=_affects("results"))
    """Whether torch.compile makes the step. auto: on a GPU, never on a CPU."""
    deterministic: bool = field(default=False, metadata=_affects("results"))
    """Use deterministic algorithms alone: the same curves, bit for bit, from run to run on one machine with as many
    threads."""
    device: str = field(default="auto", metadata=_affects("timings"))
    """cpu, cuda, cuda:1, ..., or auto for a GPU where there is one."""


@dataclass(frozen=True)
class Session:
    """How the run is carried out and what it leaves."""

    out: Annotated[Path | None, PATH] = field(default=None, metadata=_affects("timings"))
    """Folder for the record. Default: a new one under runs/."""
    resume: Annotated[Path | None, PATH] = field(default=None, metadata=_affects("timings"))
    """Resume the run in this folder from its last checkpoint; give the same options as at its start."""
    seeds: int = field(default=1, metadata=_affects("timings", 1, 1000))
    """Run with this many seeds, from --seed on, and report mean and spread."""
    checkpoint_interval: float = field(default=60.0, metadata=_affects("timings", 0.0, 1e9))
    """Seconds between checkpoints. One is written too when the run is asked to stop."""
    profile: bool = field(default=False, metadata=_affects("timings"))
    """Measure what the wall time is made of: a table, a picture, and a trace for ui.perfetto.dev."""
    tensorboard: bool = field(default=False, metadata=_affects("timings"))
    """Write the curves for TensorBoard too, into the run's folder. Needs tensorboard."""

    def __post_init__(self) -> None:
        for name in ("out", "resume"):  # in Python a path may be a str
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, user_path(getattr(self, name)))


@dataclass(frozen=True)
class Run:
    """One run as it is asked for. None stands for the default of the data set, the network or the recipe.

    dataset: "own" for one that is given to `run` by data=, or a pack of it at Data(data=PATH).
    """

    dataset: RunDatasetName
    data: Data = Data()
    corruption: Corruption = Corruption()
    model: Model = Model()
    train: Train = Train()


OPTIONS = {option.name: option for section in (Data, Corruption, Model, Train, Session) for option in fields(section)}
"""Every option by name, with its metadata."""


def check_session(session: Session) -> None:
    """Raise UserError for a value out of range, or options that exclude each other."""
    check_ranges(session)
    if session.resume is not None and session.out is not None:
        raise UserError(
            f"--out {session.out} has no effect with --resume {session.resume}",
            "omit one",
            option="--out",
            value=session.out,
        )


def check_ranges(section: Any) -> None:
    for option in fields(section):
        value, limits = getattr(section, option.name), OPTIONS[option.name].metadata["range"]
        if limits is not None and value is not None:
            in_range(f"--{option.name.replace('_', '-')}", value, *limits)
