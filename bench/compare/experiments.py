# SPDX-License-Identifier: Apache-2.0
"""The questions, each a function that asks all contenders the same and stays
within its share of the time."""

import dataclasses
import json
import pathlib
import random
import shutil

import measure
from measure import Experiment, Failure, take_turns
from peers import QEMU, SPORE, SPORE_OPEN

POSIX_SPAWN = "posix_spawn"
FORK_EXEC = "fork and exec"
FORK = "fork of 64 MiB"
RESTORE_S = 120
FLOOR = ["/bin/echo", "x"]


@dataclasses.dataclass
class Place:
    """What experiments have in common."""

    spore: object
    qemu: object  # None: not on this machine
    folder: pathlib.Path  # on a disk
    targets: pathlib.Path  # of bench/fuzz/build.sh
    is_quick: bool
    seconds: float = 0  # of the experiment that runs


def without_qemu(place, experiment):
    if place.qemu is None:
        experiment.left_out.append(f"{QEMU}: qemu-system-x86_64 is missing: "
                                   "apt-get install qemu-system-x86")
        return True
    return False


def first_byte(place, argv, *options, runs=10):
    """A turn: a block of starts of a command."""
    def turn(series):
        series.add_stats(measure.run_bench(
            [place.spore.bench("first_byte"), "-n", str(runs), "-g", "5", "-q", "-t", "20",
             *options, "--", *argv], RESTORE_S))
    return turn


def run_start(place):
    e = Experiment("start", "Process start to the guest's first byte, and to "
                   "its end reaped: a bare guest that says a line",
                   "first_byte")
    spore = place.spore
    turns = [
        (POSIX_SPAWN, None, first_byte(place, FLOOR)),
        (FORK_EXEC, None, first_byte(place, FLOOR, "-f")),
        (SPORE, None, first_byte(place, spore.boot("hello"))),
        (SPORE_OPEN, None, first_byte(place, spore.boot("hello", jail="off")))]
    if not without_qemu(place, e):
        turns.append((QEMU, None, first_byte(place, place.qemu.boot("hello"),
                                             runs=4)))
    take_turns(e, turns, place.seconds)
    return e


def run_memory(place):
    e = Experiment("memory", "What a VM of 128 MiB has to itself while its bare "
                   "guest runs, all of its processes", "private")
    spore = place.spore
    turns = [
        (SPORE, None, first_byte(place, spore.boot("spin"), "-m", runs=1)),
        (SPORE_OPEN, None,
         first_byte(place, spore.boot("spin", jail="off"), "-m", runs=1))]
    if not without_qemu(place, e):
        turns.append((QEMU, None, first_byte(place, place.qemu.boot("spin"),
                                             "-m", runs=1)))
    take_turns(e, turns, place.seconds, rounds=10)
    return e


def run_restore(place):
    e = Experiment("restore", "Process start to the first byte of a guest "
                   "restored from a file: 64 MiB written of RAM, page cache "
                   "warm", "first_byte", "RAM, MiB")
    spore = place.spore
    turns = []
    has_qemu = not without_qemu(place, e)
    for mem in (128, 1024) if place.is_quick else (128, 512, 2048, 8192):
        spore.freeze_beacon(mem)
        turns += [
            (SPORE, mem, first_byte(place, spore.restore(mem), "-i", "-K")),
            (SPORE_OPEN, mem, first_byte(place, spore.restore(mem, "off"),
                                         "-i", "-K"))]
        if not has_qemu:
            continue
        try:
            place.qemu.freeze_beacon(mem)
        except Failure as problem:
            e.left_out.append(f"{QEMU} at {mem}: {problem}")
            continue
        turns.append((QEMU, mem, first_byte(place, place.qemu.restore(mem),
                                            "-i", "-K", runs=3)))
    take_turns(e, turns, place.seconds)
    return e


def run_save(place):
    e = Experiment("save", "From the asking until a machine with 64 MiB written "
                   "of 128 is in a file (no fsync), and how long it stands "
                   "still", "save")
    turns = [(SPORE, None, lambda s: place.spore.freeze_beacon(128, s))]
    if not without_qemu(place, e):
        turns.append((QEMU, None, lambda s: place.qemu.freeze_beacon(128, s)))
    take_turns(e, turns, place.seconds)
    return e


def run_stages(place):
    """The benchmark that nobody publishes, as one restores by the library."""
    e = Experiment("stages", "Restores at once, each a process without a jail: "
                   "to the guest's first byte, by stages, with what each costs",
                   "first_byte", "restores at once")
    spore = place.spore

    def turn(count, is_cold):
        argv = [spore.bench("restore"), "-m", "128", "-k", str(count),
                "-n", str(max(1, 16 // count)), "-f", str(place.folder)]

        def ask(series):
            told = measure.run_bench(
                argv + ["-c"] * is_cold + [spore.guest("byte")], RESTORE_S)
            series.add_stats(told["mib_128"])
        return ask

    take_turns(e, [(f"{'cold' if is_cold else 'warm'}", count,
                    turn(count, is_cold))
                   for count in (1, 4, 16, 64, 256)
                   for is_cold in (False, True)], place.seconds)
    return e


def run_crowd(place):
    e = Experiment("crowd", "Restores at once of the beacon (64 MiB written of "
                   "128), by the programs as users run them",
                   "first_byte", "restores at once")
    spore = place.spore
    counts = (1, 4, 16, 64, 256)
    has_qemu = not without_qemu(place, e)

    def turn(argv, count, cold):
        options = ["-i", "-t", "60", "-k", str(count)]
        options += ["-c", str(cold)] if cold else []
        return first_byte(place, argv, *options, runs=max(1, 16 // count))

    turns = []
    for count in counts:
        for suffix, is_cold in ((", warm", False), (", cold", True)):
            turns.append((SPORE + suffix, count,
                          turn(spore.restore(), count,
                               is_cold and spore.store)))
            turns.append((SPORE_OPEN + suffix, count,
                          turn(spore.restore(jail="off"), count,
                               is_cold and spore.store)))
            # 64 MiB and more each.
            if has_qemu and count <= (16 if place.is_quick else 64):
                turns.append((QEMU + suffix, count,
                              turn(place.qemu.restore(), count,
                                   is_cold and place.qemu.folder)))
    take_turns(e, turns, place.seconds)
    return e


def run_dirty(place):
    e = Experiment("dirty", "Putting back a guest that wrote to d pages (128 "
                   "MiB, ring 3), beside a fork whose child writes as many and "
                   "ends", "cost", "pages written")
    spore = place.spore
    counts = (0, 1, 10, 100, 1000)
    runs = "100" if place.is_quick else "200"

    def reset(way, pages):
        def ask(series):
            told = measure.run_bench(
                [spore.bench("reset"), "-n", runs, "-o", f"3,{way},{pages}",
                 spore.guest("rounds")], RESTORE_S)
            stats = told[f"{way}_ring3_{pages}"]
            series.add("cost", "us", stats["reset"]["samples"])
            series.add_stats({"trip": stats["trip"]})
        return ask

    def fork(_):
        told = measure.run_bench([spore.bench("fork"), "-n", "20"], RESTORE_S)
        for pages in counts:
            stats = told[f"pages_{pages}"]
            e.get(FORK, pages).add("cost", "us", stats["samples"])

    def diff(_):
        told = measure.run_bench(
            [spore.bench("save"), "-n", "3", "-w", "diff", spore.guest("rounds"),
             str(place.folder)], RESTORE_S)
        for pages in (*counts, 10000):
            stats = told.get(f"diff_{pages} {place.folder}")
            if stats is not None:
                e.get("stop for a diff of 1 GiB", pages).add(
                    "cost", "us", stats["stop"]["samples"])

    turns = [("reset in place", pages, reset("sync", pages))
             for pages in counts]
    turns += [("reset of everything", pages, reset("all", pages))
              for pages in counts]
    turns += [(FORK, None, fork), ("stop for a diff of 1 GiB", None, diff)]
    take_turns(e, turns, place.seconds)
    return e


def run_log(place):
    e = Experiment("log", "Knowing what a guest wrote (ring 3): the harvest of "
                   "d pages", "harvest", "pages written")

    def ask(_):
        told = measure.run_bench(
            [place.spore.bench("dirty"), "-n", "20" if place.is_quick else "200",
             place.spore.guest("rounds")], RESTORE_S)
        for way in ("bitmap", "hot_set", "ring"):
            for pages in (0, 10, 100, 1000):
                e.get(way, pages).add_stats(told[f"{way}_ring3_{pages}"])

    take_turns(e, [("all", None, ask)], place.seconds)
    return e


def run_clones(place):
    e = Experiment("clones", "Clones of a guest that serves, all alive at once, "
                   "each having answered a request", "each", "clones alive")
    store = place.spore.freeze_function()

    def turn(count):
        def ask(series):
            told = measure.run_bench(
                [place.spore.bench("clones"), "-n", str(count), "-p", "5000",
                 store], RESTORE_S)
            if told["failed"] or told["answered"] != count:
                raise Failure(f"{told['answered']} of {count} have answered")
            series.add("each", "ms", [told["each_ms"]])
            series.add("available_less", "KiB", [told["less_each_kib"]])
            series.add("kernel", "KiB", [told["kernel_each_kib"]])
            series.add_stats(told)
        return ask

    def one(*options):
        def ask(series):
            told = measure.run_bench(
                [place.spore.bench("clone"), "-n", "30", "-g", "5", "-p", "5000",
                 *options, store], RESTORE_S)
            if told["failures"]:
                raise Failure(f"{told['failures']} clones have failed")
            series.add_stats(told)
        return ask

    counts = (1, 4, 16, 64, 256) + (() if place.is_quick else (1000,))
    take_turns(e, [(SPORE, count, turn(count)) for count in counts] +
               [("one, kept ready", None, one()),
                ("one, put back", None, one("-r"))], place.seconds)
    return e


FUZZ_MODES = {"fork": "AFL++ fork", "deferred": "AFL++ deferred fork",
              "persistent": "AFL++ persistent", "nyx": "-X on spore",
              "spore-afl": "spore-afl"}


def run_fuzz(place):
    e = Experiment("fuzz", "Runs a second by AFL++ (bench/fuzz/compare.sh)",
                   "per_second")
    here = pathlib.Path(__file__).resolve().parent.parent
    targets = [t for t in ("empty", "zlib", "png", "xml2", "sqlite", "tiff")
               if (place.targets / f"{t}.persistent").exists()]
    if shutil.which("afl-fuzz") is None:
        e.left_out.append("AFL++: afl-fuzz is missing: apt-get install afl++")
        return e
    if not targets:
        e.left_out.append(f"AFL++: no targets in {place.targets}: "
                          "bench/fuzz/build.sh makes them")
        return e
    random.Random(1).shuffle(targets)
    targets = targets[:1] if place.is_quick else targets
    if place.is_quick and (place.targets / "empty.persistent").exists():
        targets = ["empty"]
    seconds = max(2, int(place.seconds / len(targets) / len(FUZZ_MODES)) - 2)
    text = measure.run(
        [str(here / "fuzz" / "compare.sh"), "-b", str(place.spore.build),
         "-t", str(place.targets), "-p", str(place.folder / "packed"),
         "-V", str(seconds), "-n", "1", *targets],
        place.seconds * 2 + 240 * len(targets))
    for line in text.splitlines():
        told = json.loads(line)
        series = e.get(f"{told['target']}: {FUZZ_MODES[told['mode']]}")
        series.add("per_second", "runs/s", [told["per_second"]])
        series.add("edges", "edges", [told["edges"]])
    for target in targets:
        e.left_out += [f"{target}: {mode}: it has failed"
                       for mode in FUZZ_MODES.values()
                       if e.find(f"{target}: {mode}") is None]
    return e


# With their shares of the time, in seconds: --quick, and all. One round of each
# is made in any case.
ALL = (
    (run_start, 24, 180),
    (run_memory, 6, 20),
    (run_restore, 25, 300),
    (run_save, 14, 90),
    (run_stages, 25, 240),
    (run_crowd, 30, 330),
    (run_dirty, 15, 120),
    (run_log, 4, 60),
    (run_clones, 12, 120),
    (run_fuzz, 20, 300),
)
