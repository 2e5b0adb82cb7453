"""`make gpu-dry-run`: what a GPU would be given, on a machine without one.

    environments.py   the oldest and the newest CUDA build of torch, each in a separate environment
    libraries.py      csrc/ built against each, and loaded into both
    absent_h100.py    an H100 as far as torch's compiler asks; imported in those environments only
    step.py           the training step of a network, compiled for it: launches, bytes, registers and spills

The counts are compared with benchmarks/counts/gpu_step.json. Nothing runs on a device, so there are no times.
"""
