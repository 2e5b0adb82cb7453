"""An H100 that is not there, as far as torch's compiler and Triton ask: code for it is generated and never run.

`shims` is for the parent process; `pretend` for a child that has a CUDA build of torch and what `shims` returned in its
environment. Its tensors are FakeTensors: shapes, strides and types on a device "cuda", without values.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

CAPABILITY = 90
PROPERTIES = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3",
    major=9,
    minor=0,
    multi_processor_count=132,
    total_memory=80 << 30,
    regs_per_multiprocessor=65_536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    warp_size=32,
    shared_memory_per_block=49_152,
    shared_memory_per_block_optin=232_448,
    shared_memory_per_multiprocessor=233_472,
    L2_cache_size=50 << 20,
    clock_rate=1_980_000,
    memory_clock_rate=2_619_000,
    memory_bus_width=5120,
    gcnArchName="",
    is_integrated=0,
    uuid="0",
    pci_bus_id=0,
    pci_device_id=0,
    pci_domain_id=0,
)

DEVICES = """
int absent_devices = 0;
signed char _ZN3c104cuda12device_countEv(void) { return (signed char)absent_devices; }
"""
"""Autograd's engine makes a queue for each device, once it is asked for one."""
DRIVER = "int cuDevicePrimaryCtxGetState(int d, unsigned *f, int *a) { *f = 0; *a = 0; return 0; }\n"


def shims(folder: Path) -> dict[str, str]:
    """Build two libraries with cc that answer in place of CUDA's. Return the environment that loads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in (("devices.so", DEVICES), ("libcuda.so.1", DRIVER)):
        command = ["cc", "-shared", "-fPIC", "-o", str(folder / name), "-x", "c", "-"]
        subprocess.run(command, input=source, text=True, check=True)
    return {"LD_PRELOAD": str(folder / "devices.so"), "LD_LIBRARY_PATH": str(folder)}


class Driver:
    """In place of Triton's driver."""

    utils = SimpleNamespace(
        load_binary=lambda *_: (0, 0, 0, 0, 1024),
        get_device_properties=lambda _: {"max_shared_mem": 232_448, "multiprocessor_count": 132},
    )

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", CAPABILITY, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_active_torch_device(self) -> Any:
        import torch

        return torch.device("cuda", 0)

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        return lambda *_: None


def pretend() -> None:
    """Let torch and Triton find the device in this process. There is no way back."""
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # another process would look for the real one
    import ctypes

    import torch
    import torch._functorch.config as functorch_config
    import torch._inductor.config as inductor_config
    import torch._subclasses.fake_tensor as fake_tensor
    from torch._dynamo.device_interface import CudaInterface
    from torch._inductor.fx_passes import fuse_attention, misc_patterns, pad_mm
    from torch._inductor.runtime import triton_helpers
    from triton.runtime import driver

    torch._C._ensureCUDADeviceGuardSet()
    ctypes.c_int.in_dll(ctypes.CDLL(os.environ["LD_PRELOAD"]), "absent_devices").value = 100

    def always(value: Any) -> Callable[..., Any]:
        return lambda *_, **__: value

    cuda: Any = torch.cuda
    answers = {"is_available": True, "device_count": 1, "current_device": 0, "get_device_properties": PROPERTIES}
    answers |= {"get_device_capability": (9, 0), "get_device_name": PROPERTIES.name, "_lazy_init": None}
    answers |= {"is_initialized": True, "synchronize": None, "_is_compiled": True, "is_bf16_supported": True}
    answers |= {"set_rng_state": None, "is_current_stream_capturing": False}
    answers |= {"_exchange_device": 0, "_maybe_exchange_device": 0}
    for name, value in answers.items():
        setattr(cuda, name, always(value))
    cuda.get_rng_state = lambda *_: torch.get_rng_state()

    interface: Any = CudaInterface
    for name in ("exchange_device", "maybe_exchange_device"):
        setattr(interface, name, staticmethod(always(0)))
    interface.get_compute_capability = staticmethod(always(CAPABILITY))
    interface.is_available = staticmethod(always(True))
    interface.get_device_properties = interface.Worker.get_device_properties = staticmethod(always(PROPERTIES))
    interface.Worker.current_device = staticmethod(always(0))

    core: Any = torch._C
    core._cuda_getCurrentRawStream = always(0)
    # What a GPU would choose for convolutions: cuDNN, channels last.
    core._select_conv_backend = always(core._ConvBackend.Cudnn)
    core._conv_determine_backend_memory_format = always(torch.channels_last)

    fake_tensor.init_gpu_context = always(None)  # type: ignore[assignment]
    triton_helpers.set_driver_to_gpu = always(None)
    # These trace examples on the device, for patterns that no network here has.
    fuse_attention._sfdp_init = pad_mm._pad_mm_init = misc_patterns._misc_patterns_init = always(None)  # type: ignore[assignment]
    inductor_config.joint_graph_constant_folding = False  # it computes on the device
    inductor_config.fx_graph_cache = inductor_config.use_static_triton_launcher = False
    functorch_config.enable_autograd_cache = False
    driver.set_active(Driver())


def fake_operators() -> None:
    """Give FakeTensors what they lack here: the fused optimizer, a scalar on the device, and reading one (0)."""
    import torch
    from torch._subclasses import fake_impls

    aten: Any = torch.ops.aten
    fake_impls.op_implementations_dict[aten._local_scalar_dense.default] = lambda *_, **__: 0
    library = torch.library.Library("aten", "IMPL")
    for overload in aten._fused_sgd_.overloads():
        name = "_fused_sgd_" if overload == "default" else f"_fused_sgd_.{overload}"
        library.impl(name, lambda *_, **__: None, "Meta")
    _LIBRARIES.append(library)
    real = torch.tensor

    def tensor(value: Any, device: Any = None, **options: Any) -> Any:
        made = real(value, **options)
        return made if device is None else torch.empty(made.shape, dtype=made.dtype, device=device)

    torch.tensor = tensor  # type: ignore[assignment]


_LIBRARIES: list[Any] = []
"""What is registered stays only as long as its library object."""
