# SPDX-License-Identifier: Apache-2.0
"""What a run ran on."""

import json
import os
import pathlib
import platform
import re
import subprocess
import time

import measure


def _read(path, begin):
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
        if line.startswith(begin):
            return line.split(":", 1)[1].strip()
    return "unknown"


def _version(argv):
    try:
        out = subprocess.run(argv, capture_output=True, text=True, timeout=20,
                             check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.stdout + out.stderr)
    lines = text.strip().splitlines()
    return lines[0] if lines else None


def _commit(folder):
    def git(*argv):
        return subprocess.run(["git", "-C", str(folder), *argv], text=True,
                              capture_output=True, check=False).stdout.strip()
    commit = git("rev-parse", "--short=12", "HEAD") or "unknown"
    return commit + ("+" if git("status", "--porcelain", "-uno") else "")


def describe(spore):
    try:
        told = subprocess.run([spore.binary, "doctor", "--json"], text=True,
                              capture_output=True, timeout=60, check=False)
        doctor = json.loads(told.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as e:
        raise measure.Failure(f"spore doctor: {e}") from e
    checks = {c["name"]: c["found"] for c in doctor["checks"]}
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "commit": _commit(pathlib.Path(__file__).parent),
        "processor": _read("/proc/cpuinfo", "model name"),
        "processors": os.cpu_count(),
        "memory": _read("/proc/meminfo", "MemTotal"),
        "kernel": f"{platform.system()} {platform.release()}",
        "kvm": checks.get("backend", "unknown"),
        "doctor": doctor["verdict"],
        "load_before": os.getloadavg()[0],
        "versions": {
            "spore": _version([spore.binary, "version"]),
            "qemu": _version(["qemu-system-x86_64", "--version"]),
            "afl++": _version(["afl-fuzz", "--version"]),
        },
    }
