#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that every #include follows the layers, lowest first, and that each
header has the guard that its path asks for."""

import pathlib
import re
import sys

# What a layer may include besides itself. The longest matching prefix of a
# path is its layer; folders that are not here may include anything.
LAYERS = {
    "vmm/base": [],
    "vmm/core": ["vmm/base"],
    "virtio": ["vmm/base", "vmm/core"],
    "vmm/hw": ["vmm/base", "vmm/core"],
    "jail": ["vmm/base"],
    "snapshot": ["vmm/base", "vmm/core", "vmm/hw"],
    "vmm/api": ["vmm/base", "vmm/core"],
    "vmm": ["vmm/base", "vmm/core", "virtio", "vmm/hw", "vmm/api", "jail",
            "snapshot",
            "guest/agent/proto.h", "guest/agent_image.h"],
    "fuzz": ["vmm/base", "vmm/core", "vmm/hw", "vmm/api", "snapshot", "jail",
             "vmm", "guest/fuzz/abi.h", "guest/fuzz/names.h",
             "guest/fuzz_image.h"],
    "vmm/serve": ["vmm/base", "vmm/core", "vmm/api", "snapshot", "jail", "vmm",
                  "guest/agent/proto.h", "vmm/lib/wire.h"],
    # A library for programs: the rest of spore is another process to it.
    "vmm/lib": ["vmm/base/cc.h"],
    # The command line is above everything.
    "vmm/main.c": ["vmm/base", "vmm", "vmm/serve", "fuzz"],
    "guest": [],
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
KVM_IOCTL = re.compile(r"\bioctl\([^;]*\bKVM_", re.S)


def layer_of(path):
    best = None
    for layer in LAYERS:
        if path == layer or path.startswith(layer + "/"):
            if best is None or len(layer) > len(best):
                best = layer
    return best


def check_file(root, path):
    name = str(path.relative_to(root))
    layer = layer_of(name)
    text = path.read_text()
    if not text.startswith("/* SPDX-License-Identifier: Apache-2.0 */"):
        yield f"{name}: does not begin with its licence"
    if path.suffix == ".h":
        guard = name.upper().replace("/", "_").replace(".", "_")
        if f"#ifndef {guard}\n#define {guard}\n" not in text:
            yield f"{name}: guard is not {guard}"
    if layer is None:
        return
    if layer != "vmm/hw" and KVM_IOCTL.search(text):
        yield f"{name}: KVM ioctls belong in vmm/hw"
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        target = match.group(1)
        if not (root / target).exists():
            yield f"{name}:{number}: {target} is not a path from the root"
            continue
        allowed = [layer, *LAYERS[layer]]
        if layer_of(target) not in allowed and target not in allowed:
            yield f"{name}:{number}: {layer} may not include {target}"


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    folders = ["vmm", "virtio", "jail", "snapshot", "fuzz", "guest", "tests",
               "bench"]
    count = 0
    problems = []
    for folder in folders:
        for path in sorted((root / folder).rglob("*.[chS]")):
            count += 1
            problems.extend(check_file(root, path))
    for problem in problems:
        print(problem)
    print(f"{count} files, {len(problems)} problems")
    return 1 if problems or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
