"""What machine code for an NVIDIA GPU says of itself: registers, stack, shared memory, and the mix of instructions."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

GROUPS = {
    "global memory": r"LDG|STG|RED|ATOM|ATOMG|LDGSTS",
    "shared memory": r"LDS|STS|LDSM|ATOMS",
    "spills": r"LDL|STL",
    "float": r"FADD|FMUL|FFMA|FSEL|FSET|FSETP|FMNMX|FCHK|FSWZADD|HADD2|HMUL2|HFMA2|FADD2|FMUL2|FFMA2",
    "integer": r"IADD3|IADD|IMAD|LEA|LOP3|LOP|SHF|SHL|SHR|ISETP|IMNMX|VIADD|VIMNMX|IABS|POPC|FLO|PRMT|SEL|VIADDMNMX",
    "special": r"MUFU",
    "convert": r"I2F|F2I|F2F|F2FP|I2FP|I2I|FRND",
    "synchronise": r"BAR|MEMBAR|DEPBAR|ERRBAR|WARPSYNC|BSYNC|BSSY|SYNCS",
    "branch": r"BRA|BRX|EXIT|CALL|RET|JMP",
}
"""The families of opcodes by what they occupy; the rest are `other`."""


def tools() -> Path:
    """Triton brings NVIDIA's disassembler."""
    import triton

    return Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def group(opcode: str) -> str:
    """The family of an opcode, without its suffixes."""
    return next((name for name, pattern in GROUPS.items() if re.fullmatch(pattern, opcode)), "other")


def of_code(usage: str, sass: str) -> dict[str, Any]:
    """Of one function. usage: its line of -res-usage; sass: its disassembly."""
    found = dict(re.findall(r"(REG|STACK|LOCAL|SHARED):(\d+)", usage))
    opcodes = [
        op.split(".")[0] for op in re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)", sass, re.M)
    ]
    mix = Counter(group(op) for op in opcodes if op != "NOP")
    return {
        "registers": int(found["REG"]),
        "stack": int(found["STACK"]) + int(found["LOCAL"]),
        "spills": mix["spills"],
        "shared": int(found["SHARED"]),
        "instructions": sum(op not in ("NOP", "BRA") for op in opcodes),
        "mix": {name: mix[name] for name in sorted(mix)},
    }


def usage(path: Path) -> list[dict[str, int]]:
    """Registers and stack bytes of every function in a cubin. Spilled registers are on the stack."""
    command = [str(tools() / "cuobjdump"), "-res-usage", str(path)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = [dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", line)) for line in re.findall(r"REG:.*", text)]
    return [{"registers": int(one["REG"]), "stack": int(one["STACK"]) + int(one["LOCAL"])} for one in found]


def of_cubin(path: Path) -> dict[str, dict[str, Any]]:
    """Of every function in a cubin, by name."""
    command = [str(tools() / "cuobjdump"), "-res-usage", "-sass", str(path)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    usages = dict(re.findall(r"Function (\S+):\s*\n?\s*(REG:.*)", text))
    parts = re.split(r"^\s*Function : (\S+)\s*$", text, flags=re.M)[1:]
    codes = dict(zip(parts[::2], parts[1::2], strict=True))
    return {name: of_code(usages[name], code) for name, code in codes.items()}
