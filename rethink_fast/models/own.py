"""Networks from outside the package: `package.module:name`, a callable, or `timm/NAME`, a network of timm.

    name(num_classes, channels, (height, width)) -> nn.Module    float [B, channels, height, width] -> [B, num_classes]

What it gives is tried on two images before any training, so that a misfit is one line.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError

TIMM = "timm/"
FORM = "package.module:name"


def is_own(name: str) -> bool:
    """Return whether a name is that of a network from outside the package."""
    return ":" in name or name.startswith(TIMM)


def name_of(function: Callable[..., nn.Module]) -> str:
    """Return the name by which another process finds a callable. Raises UserError where it has none."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module is None or not name.isidentifier() or getattr(sys.modules.get(module), name, None) is not function:
        made = isinstance(function, nn.Module)
        raise UserError(
            f"a {type(function).__name__} is a network that is made already"
            if made
            else f"the network {function!r} has no name in a module",
            "give the function or class that makes it, defined at the top level of a module",
            option="model",
            value=function,
            allowed=FORM,
        )
    return f"{module}:{name}"


def source_of(name: str) -> dict[str, str] | None:
    """Return the file that defines an own network and its SHA-256, or timm's version; None for one of the package."""
    if not is_own(name):
        return None
    if name.startswith(TIMM):
        return {"file": "timm", "sha256": f"version {_timm().__version__}"}
    try:
        file = inspect.getsourcefile(inspect.unwrap(_callable(name)))
        content = Path(file or "").read_bytes()
    except (OSError, TypeError):  # compiled, or typed into an interpreter
        return {"file": "none", "sha256": "none"}
    return {"file": Path(file or "").name, "sha256": hashlib.sha256(content).hexdigest()}


def build_own(name: str, *, num_classes: int, channels: int, size: tuple[int, int]) -> nn.Module:
    """Return the network of this name, initialised from torch's generator and tried on two images.

    name: "package.module:name" or "timm/NAME".
    size: height and width of the input, in pixels.
    Raises UserError where there is no such callable, it fails or gives no module, or the module does not map
    float [B, channels, *size] to [B, num_classes].
    """
    make = partial(_build_timm, name) if name.startswith(TIMM) else _callable(name)
    try:
        network = make(num_classes, channels, size)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise _refused(name, f"failed when called with ({num_classes}, {channels}, {size}): {_first(error)}") from error
    if not isinstance(network, nn.Module):
        raise _refused(name, f"gives {type(network).__name__}, not torch.nn.Module")
    _try_out(name, network, num_classes, (2, channels, *size))
    return network


def _try_out(name: str, network: nn.Module, num_classes: int, shape: tuple[int, ...]) -> None:
    """Run the network in eval mode and a copy of it in training mode, without advancing torch's generator.

    Lazy layers are the exception: they take their shapes and draw their weights in a first pass.
    """
    network.eval()
    elsewhere = {str(tensor.device) for tensor in (*network.parameters(), *network.buffers())}
    elsewhere -= {str(torch.zeros(0).device)}
    if elsewhere:
        raise _refused(name, f"gives parameters on {', '.join(sorted(elsewhere))}: leave them on the CPU")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise _refused(name, "gives a network without trainable parameters")
    if any(isinstance(parameter, nn.parameter.UninitializedParameter) for parameter in network.parameters()):
        with torch.no_grad():
            _run(name, network, num_classes, shape)
    try:
        copied = copy.deepcopy(network).train()
    except Exception as error:
        raise _refused(name, f"gives a network that copy.deepcopy does not copy: {_first(error)}") from error
    with torch.random.fork_rng(devices=[]):
        with torch.no_grad():
            _run(name, network, num_classes, shape)
        _run(name, copied, num_classes, shape)
    network.train()


def _run(name: str, network: nn.Module, num_classes: int, shape: tuple[int, ...]) -> None:
    mode = "training" if network.training else "eval"
    try:
        out = network(torch.zeros(shape))
    except Exception as error:
        raise _refused(
            name, f"does not take an input of {list(shape)} in {mode} mode: {_first(error)}", SIZE
        ) from error
    outputs = out if isinstance(out, tuple) and network.training and len(out) == 2 else (out,)
    for output in outputs:
        if not isinstance(output, Tensor) or not output.is_floating_point() or output.layout != torch.strided:
            kind = f"{output.dtype}, {output.layout}," if isinstance(output, Tensor) else type(output).__name__
            raise _refused(name, f"gives {kind} in {mode} mode, not a dense tensor of floats")
        if list(output.shape) != [shape[0], num_classes]:
            given = list(output.shape)
            raise _refused(name, f"gives {given} for an input of {list(shape)}, not {[shape[0], num_classes]}")
    if network.training and not outputs[0].requires_grad:
        raise _refused(name, "gives an output without gradients in training mode", "omit no_grad and detach")


def _callable(name: str) -> Callable[..., Any]:
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute.isidentifier():
        raise _refused(name, f"is not of the form {FORM}")
    here = os.getcwd()
    if not {"", here} & set(sys.path):  # as with python -m
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and module_name.startswith(error.name):
            raise _refused(name, f"there is no module {error.name}, in {here} or installed") from error
        raise _refused(name, f"importing {module_name} failed: {_first(error)}") from error
    network = getattr(module, attribute, None)
    if not callable(network):
        where = getattr(module, "__file__", None) or module_name
        raise _refused(name, f"{where} has no function or class {attribute}")
    return network


def _timm() -> Any:
    try:
        import timm
    except ModuleNotFoundError:
        raise UserError(
            "--model timm/... needs timm, which is not installed",
            "pip install timm, or name a network of this package",
            option="--model",
            value=TIMM,
        ) from None
    return timm


def _build_timm(name: str, num_classes: int, channels: int, size: tuple[int, int]) -> Any:
    timm, architecture = _timm(), name.removeprefix(TIMM)
    if not timm.is_model(architecture):
        near = ", ".join(difflib.get_close_matches(architecture, timm.list_models()))
        raise _refused(
            name, f"timm {timm.__version__} does not know it", f"choose a name of timm.list_models(): {near}"
        )
    config = timm.get_pretrained_cfg(architecture)
    # Networks of a fixed size take another one when they are built; for the others the first pass tells.
    options = {"img_size": size} if config is not None and config.fixed_input_size else {}
    return timm.create_model(architecture, num_classes=num_classes, in_chans=channels, **options)


SIZE = "change the network, or choose another --size"


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


CALL = f"give {FORM}, called with (num_classes, channels, (height, width)), that returns a torch.nn.Module"


def _refused(name: str, problem: str, fix: str = CALL) -> UserError:
    return UserError(
        f"--model {name}: {problem}",
        fix,
        option="--model",
        value=name,
        allowed=FORM,
    )
