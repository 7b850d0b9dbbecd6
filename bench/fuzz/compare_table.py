#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lines of compare.sh as a table in Markdown: medians, and n of them.

    compare_table.py [FILE...]      (standard input without one)
"""
import fileinput
import json
import statistics
import sys

MODES = ("fork", "deferred", "persistent", "nyx", "spore-afl")
NAMES = {"nyx": "`-X` on spore", "spore-afl": "`spore-afl`"}
HEADER = ("target", "mode", "n", "runs/s", "to fork", "edges", "stability, %",
          "pages put back", "memory, own, MiB", "proportional, MiB")


def median(runs, key):
    """None if no run has it."""
    values = [run[key] for run in runs if run.get(key) is not None]
    return statistics.median(values) if values else None


def show(value, form):
    return "" if value is None else format(value, form)


def mib(kib):
    return None if kib is None else kib / 1024


def row(target, mode, runs, fork):
    speed = median(runs, "per_second")
    return (target, NAMES.get(mode, mode), str(len(runs)), show(speed, ".0f"),
            show(speed / fork if fork else None, ".2f"),
            show(median(runs, "edges"), ".0f"),
            show(median(runs, "stable"), ".2f"),
            show(median(runs, "pages"), ".0f"),
            show(mib(median(runs, "own_kib")), ".1f"),
            show(mib(median(runs, "pss_kib")), ".1f"))


def main():
    targets = {}
    for line in fileinput.input():
        run = json.loads(line)
        run["stable"] = float(run["stability"].rstrip("%"))
        modes = targets.setdefault(run["target"], {})
        modes.setdefault(run["mode"], []).append(run)
    rows = [HEADER, ("---",) * len(HEADER)]
    for target, modes in targets.items():
        fork = median(modes.get("fork", []), "per_second")
        rows += [row(target, mode, modes[mode], fork)
                 for mode in MODES if mode in modes]
    for cells in rows:
        print("|", " | ".join(cells), "|")
    return 0


if __name__ == "__main__":
    sys.exit(main())
