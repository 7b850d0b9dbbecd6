#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One run of afl-fuzz, and a line of JSON about it: what compare.sh and hunt.sh
have for their inner loop.

    afl_run.py --target NAME --mode NAME --seconds S --folder FOLDER [--cpu N]
        [--check SPORE TARGET] [--plain PROGRAM] -- OPTION-OF-AFL-FUZZ...

FOLDER/out is afl-fuzz's, FOLDER/log what it printed. Memory is that of all
processes below afl-fuzz, in the middle of the run, medians: their proportional
set sizes, and what is theirs alone. --check: what `spore fuzz check` says of
TARGET with the inputs that were found. --plain: which bugs were found, by the
program without AFL++ (found.py).
"""
import argparse
import contextlib
import fcntl
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import found

LOCK = pathlib.Path(f"/tmp/spore-afl-run.{os.getuid()}.lock")
BOUND_S = 20
SAMPLES = 9
CHECK_RUNS = 400


def descendants(pid):
    """Processes below pid, as they are right now."""
    children = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text(errors="replace")
        except OSError:
            continue
        parent = int(text[text.rindex(")") + 2:].split()[1])
        children.setdefault(parent, []).append(int(stat.parent.name))
    below, todo = [], [pid]
    while todo:
        todo += (more := children.get(todo.pop(), []))
        below += more
    return below


def memory(pids):
    """KiB: proportional, and private and written to."""
    pss = own = 0
    for pid in pids:
        try:
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:  # it has ended: the child of a run
            continue
        told = dict(re.findall(r"^(\w+): +(\d+) kB", text, re.M))
        pss += int(told.get("Pss", 0))
        own += int(told.get("Private_Dirty", 0))
    return pss, own


@contextlib.contextmanager
def only_free(cpu):
    """afl-fuzz -X refuses -b and takes the first CPU to which no process is
    bound: there are some on all others until it has it. One at a time, or two
    would wait for each other's."""
    with open(LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        holders = [
            subprocess.Popen(["sleep", str(BOUND_S * 2)],
                             preexec_fn=lambda n=n: os.sched_setaffinity(0, {n}))
            for n in os.sched_getaffinity(0) - {cpu}]
        try:
            yield
        finally:
            for holder in holders:
                holder.kill()
                holder.wait()


def wait_bound(process):
    limit = time.monotonic() + BOUND_S
    while process.poll() is None and time.monotonic() < limit:
        if len(os.sched_getaffinity(process.pid)) == 1:
            return
        time.sleep(0.01)


def start(command, log, cpu):
    def popen(command):
        return subprocess.Popen(command, stdout=log, stderr=log,
                                stdin=subprocess.DEVNULL)
    if cpu is None:
        return popen(command)
    if "-X" not in command:
        return popen([*command[:1], "-b", str(cpu), *command[1:]])
    with only_free(cpu):
        process = popen(command)
        wait_bound(process)
    return process


def watch(process, seconds):
    """Samples of its descendants' memory until it ends."""
    samples = []
    start = time.monotonic()
    limit = start + seconds + 120
    step = max(seconds / 4 / SAMPLES, 0.05)
    while process.poll() is None:
        if time.monotonic() > limit:
            process.kill()  # what it has started ends with it
            process.wait()
            return None
        time.sleep(step)
        if len(samples) < SAMPLES and time.monotonic() > start + seconds / 2:
            samples.append(memory(descendants(process.pid)))
    return samples


def read_stats(path):
    pairs = (line.split(":", 1) for line in path.read_text().splitlines()
             if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def check(spore, target, queue):
    """Pages that resets put back, of the inputs that AFL++ has kept."""
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(sorted(queue.glob("id:*"))):
            (pathlib.Path(folder) / f"{number:06}").symlink_to(path)
        done = subprocess.run(
            [spore, "fuzz", "check", target, "-n", str(CHECK_RUNS), "--seed",
             folder, "--json"], capture_output=True, text=True, timeout=300)
    told = json.loads(done.stdout) if done.stdout else {"pages": {}}
    return {"pages": told["pages"].get("median"),
            "pages_p99": told["pages"].get("p99"),
            "ram_differs": told.get("ram_differs"),
            "map_differs": told.get("map_differs")}


def main():
    split = sys.argv.index("--")
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", required=True)
    parser.add_argument("--mode", required=True)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--cpu", type=int)
    parser.add_argument("--check", nargs=2)
    parser.add_argument("--plain")
    given = parser.parse_args(sys.argv[1:split])
    out = given.folder / "out"
    with open(given.folder / "log", "wb") as log:
        process = start(["afl-fuzz", "-o", str(out), "-V", str(given.seconds),
                         *sys.argv[split + 1:]], log, given.cpu)
        samples = watch(process, given.seconds)
    stats = out / "default" / "fuzzer_stats"
    if samples is None or process.returncode != 0 or not stats.exists():
        text = (given.folder / "log").read_text(errors="replace")
        print(f"{given.target}: {given.mode}: afl-fuzz has failed:",
              *text.splitlines()[-4:], sep="\n", file=sys.stderr)
        return 0  # the others are measured all the same
    stats = read_stats(stats)
    line = {"target": given.target, "mode": given.mode,
            "per_second": float(stats["execs_per_sec"]),
            "runs": int(stats["execs_done"]),
            "edges": int(stats["edges_found"]),
            "stability": stats["stability"],
            "crashes": int(stats["saved_crashes"]),
            "hangs": int(stats["saved_hangs"])}
    if samples:
        line["pss_kib"] = int(statistics.median(s[0] for s in samples))
        line["own_kib"] = int(statistics.median(s[1] for s in samples))
    if given.check:
        line |= check(*given.check, out / "default" / "queue")
    if given.plain:
        line |= found.report(given.target, given.plain, out / "default")
    print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
