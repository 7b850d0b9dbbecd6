#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Machines booted, cloned, saved, restored, pushed, reset, asked and killed at
random for as long as one likes, beside a server whose processes are killed
too. Every answer is known beforehand; in the end nothing may be left. Writes
soak.json and soak.md; the exit status is 1 if anything failed or leaked.
"""

import argparse
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import census
import report
import workers
import world as worlds

FDS_SLACK = 8
RSS_SLACK_KIB = 8192
CHECK_S = 30


def parse():
    root = pathlib.Path(__file__).resolve().parents[2]
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--seed", type=int, default=secrets.randbelow(10**9))
    p.add_argument("--vms", type=int, default=20, help="alive at a time")
    p.add_argument("--linux", type=int, default=2,
                   help="of them, with a Linux guest")
    p.add_argument("--build", type=pathlib.Path, default=root / "build/release")
    p.add_argument("--output", type=pathlib.Path,
                   default=root / "build" / "soak" /
                   time.strftime("%Y-%m-%d-%H%M", time.gmtime()))
    p.add_argument("--plant", choices=("failure", "leak"),
                   help="do wrong, to see that it is found")
    return p.parse_args()


def commit():
    done = subprocess.run(["git", "-C", os.path.dirname(__file__), "rev-parse",
                           "--short=12", "HEAD"], capture_output=True, text=True,
                          check=False)
    return done.stdout.strip() or "unknown"


class Soak:
    def __init__(self, args, folder):
        # Random, so that no other soak has it; short, as it is in paths.
        self.mark = f"soak{secrets.token_hex(3)}"
        self.args = args
        self.leaks = []
        self.server = None
        self.veteran = None
        self.world = worlds.World(args.build, folder, self.mark, args.vms)
        self.footprints = {"server": [], "zygote": [], "machine": []}
        self.crew = []

    def prepare(self):
        workers.freeze_function(self.world)
        linux, why = None, "no Linux guests were asked for"
        if self.args.linux > 0:
            linux, why = workers.freeze_linux(self.world)
        seed = self.args.seed
        self.server = workers.Served(self.world, seed + 1, "server")
        self.veteran = workers.Veteran(self.world, seed + 2, "veteran")
        self.crew = [self.server, self.veteran]
        bare = self.args.vms - 1 - (self.args.linux if linux else 0)
        for i in range(3):
            most = bare // 3 + (i < bare % 3)
            if most > 0:
                self.crew.append(workers.Machines(self.world, seed + 10 + i,
                                                  f"bare {i}", most))
        if linux:
            self.crew.append(workers.Machines(self.world, seed + 20, "linux",
                                              self.args.linux, linux))
            return f"Linux guests: up to {self.args.linux}"
        return f"no Linux guests: {why}"

    def check(self):
        """While nothing happens: what is there is what must be."""
        w = self.world
        w.gate.close()
        try:
            there = set(w.machines())
            if there != w.alive:
                self.leaks.append(
                    f"machines: ps has {sorted(there - w.alive)} too many and "
                    f"not {sorted(w.alive - there)}")
            places = set(os.listdir(w.folder / "run" / "spore")) - {"servers"}
            if places - w.alive:
                self.leaks.append(
                    f"run directory: {sorted(places - w.alive)} at "
                    f"{time.monotonic() - w.begin:.0f} s")
            self.look_at("machine", self.veteran.pid)
            if self.server.process and self.server.process.poll() is None:
                self.look_at("server", self.server.process.pid)
                for pid in self.server._family("spore-zygote"):
                    self.look_at("zygote", pid)
        except worlds.Failure as failure:
            self.leaks.append(f"cannot look: {failure}")
        finally:
            w.gate.open()

    def look_at(self, name, pid):
        """A server that was killed has another, which begins anew."""
        found = census.footprint(pid) if pid else None
        if found is None:
            return
        if self.footprints[name] and self.footprints[name][-1]["pid"] != pid:
            self.footprints[name] = []
        self.footprints[name].append(found | {"pid": pid})
        first = self.footprints[name][0]
        if found["fds"] > first["fds"] + FDS_SLACK:
            self.leaks.append(f"descriptors of {name} {pid}: {first['fds']}, then "
                              f"{found['fds']}")
        if found["rss_kib"] > 2 * first["rss_kib"] + RSS_SLACK_KIB:
            self.leaks.append(f"memory of {name} {pid}: {first['rss_kib']} KiB, "
                              f"then {found['rss_kib']}")

    def run(self):
        end = time.monotonic() + self.args.minutes * 60
        for worker in self.crew:
            worker.start()
        if self.args.plant == "failure" and self.veteran.vm:
            self.veteran.vm.count += 1
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, CHECK_S))
            self.check()
        for worker in self.crew:
            worker.stopping.set()
        for worker in self.crew:
            if worker.ident is not None:
                worker.join()
            worker.end()

    def finish(self, cgroups_before):
        if self.args.plant == "leak":
            self.world.spore("run", "--detach", "--id", f"{self.mark}-planted",
                             "--console", "--kernel", self.world.guest("halt"))
        end = time.monotonic() + 30
        while any((left := census.leftovers(self.mark, self.world.folder,
                                            cgroups_before)).values()):
            # What ends by itself is given time; what stays is a leak.
            if time.monotonic() > end or self.args.plant == "leak":
                break
            time.sleep(0.5)
        self.leaks += [f"{kind}: {', '.join(found[:20])}"
                       for kind, found in left.items() if found]

    def clear(self):
        """Whatever happened, nothing of it stays."""
        for pid in census.processes(self.mark):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass


def main():
    args = parse()
    if not os.access("/dev/kvm", os.W_OK):
        sys.exit("soak.py: /dev/kvm cannot be opened: spore doctor says what to "
                 "do")
    for needed in ("spore", "tests/guests/function.elf"):
        if not (args.build / needed).exists():
            sys.exit(f"soak.py: {args.build / needed} is missing: cmake --build "
                     "--preset release")
    args.build = args.build.resolve()
    args.output = args.output.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("soak.py: terminated"))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="soak.", dir="/var/tmp"))
    folder.chmod(0o755)
    # Paths of sockets are short from here.
    os.chdir(folder)
    cgroups = census.orphaned_cgroups()
    soak = Soak(args, folder)
    before = census.memory()
    try:
        try:
            linux = soak.prepare()
        except worlds.Failure as failure:
            sys.exit(f"soak.py: {failure}")
        soak.run()
        soak.finish(cgroups)
    finally:
        soak.clear()
        os.chdir("/")
        shutil.rmtree(folder, ignore_errors=True)
    w = soak.world
    result = {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
              "commit": commit(), "seed": args.seed, "linux": linux,
              "seconds": time.monotonic() - w.begin,
              "most_alive": w.most_alive,
              "operations": report.summarise(w.samples, w.failures),
              "failures": w.failures, "leaks": soak.leaks,
              "footprints": soak.footprints,
              "memory_before": before, "memory_after": census.memory()}
    report.write(args.output, result)
    total = sum(len(s) for s in w.samples.values())
    print(f"{total} operations, {len(w.failures)} failures, {len(soak.leaks)} "
          f"leaks: {args.output / 'soak.md'}")
    sys.exit(1 if w.failures or soak.leaks else 0)


if __name__ == "__main__":
    main()
