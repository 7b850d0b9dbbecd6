#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Commands whose system calls fail, one in each run: each call that a command
makes, by kind and number, with each of a few errors (strace --inject). What may
come of it is success or an error that is said; never a crash, a failed
assertion, or a hang. Prints what was wrong; the exit status is 1 if anything.

    tests/faults/faults.py [--build BUILD] [--most N] [COMMAND...]
"""

import argparse
import collections
import os
import pathlib
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ERRORS = ("EIO", "ENOMEM", "EMFILE")
LIMIT_S = 20

# Whose failure the C library has no answer to (a program's own start and end,
# locks, signal frames), and those that the kernel refuses only to who gives them
# wrong arguments, which is ours to assert.
EXCLUDED = {"clock_gettime", "clock_nanosleep", "timerfd_settime",
            "rt_sigprocmask", "rt_sigaction", "wait4", "getpid", "gettid",
            "execve", "exit", "exit_group", "futex", "rt_sigreturn",
            "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "brk",
            "mprotect", "restart_syscall"}


def parse():
    root = pathlib.Path(__file__).resolve().parents[2]
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--build", type=pathlib.Path, default=root / "build/release")
    p.add_argument("--most", type=int, default=12,
                   help="failures of a call of one kind, with each error")
    p.add_argument("commands", nargs="*", metavar="COMMAND")
    return p.parse_args()


def commands(build, folder):
    """Name, arguments, and whether it may take long."""
    guests = build / "tests" / "guests"
    store = folder / "store"
    run = ["run", "--kernel", str(guests / "hello.elf"), "--console",
           "--timeout", "10"]
    return {
        "run": run,
        "run-open": [*run, "--jail=off"],
        "restore": ["restore", "hello", "--store", str(store), "--console",
                    "--timeout", "0.2"],
        "ps": ["ps"],
        "template-ls": ["template", "ls"],
        "snapshot-ls": ["snapshot", "ls", "--store", str(store)],
        "snapshot-verify": ["snapshot", "verify", "--store", str(store), "hello"],
        "doctor": ["doctor"],
    }


# The same of calls that others make too; an assertion here is what is wanted. One
# in a monitor in its jail, which is process 1 there, is a hang under strace.
CONTRACTS = ("fd_eventfd_signal", "fd_eventfd_drain")


class Faults:
    def __init__(self, args, folder):
        self.spore = str(args.build.resolve() / "spore")
        self.folder = folder
        self.most = args.most
        self.mark = secrets.token_hex(6)
        self.runs = 0
        self.wrong = []
        for name in ("run", "data"):
            (folder / name).mkdir(mode=0o700)
        self.env = dict(os.environ, XDG_RUNTIME_DIR=str(folder / "run"),
                        XDG_DATA_HOME=str(folder / "data"), SPORE_COLD="1",
                        SPORE_FAULTS_MARK=self.mark)

    def kill_marked(self):
        wanted = f"SPORE_FAULTS_MARK={self.mark}".encode()
        for entry in os.listdir("/proc"):
            try:
                found = entry.isdigit() and wanted in pathlib.Path(
                    f"/proc/{entry}/environ").read_bytes()
                if found:
                    os.kill(int(entry), signal.SIGKILL)
            except OSError:
                continue

    def call(self, argv):
        """Status, or None for a hang, and what was said on standard error."""
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, env=self.env,
                                   cwd=self.folder, start_new_session=True)
        try:
            _, err = process.communicate(timeout=LIMIT_S)
            status = process.returncode
        except subprocess.TimeoutExpired:
            self.kill_marked()
            process.kill()
            _, err = process.communicate()
            status = None
        return status, err.decode(errors="replace").strip()

    def prepare(self, build):
        """A snapshot of a guest that goes on."""
        spore, store = self.spore, str(self.folder / "store")
        for argv in (["run", "--detach", "--id", "hello", "--console", "--kernel",
                      str(build / "tests/guests/spin.elf")],
                     ["save", "--name", "hello", "--store", store, "hello"],
                     ["kill", "hello"]):
            status, err = self.call([spore, *argv])
            if status != 0:
                sys.exit(f"faults.py: spore {argv[0]}: {err}")

    def count(self, argv):
        """How often each system call is made by the busiest process."""
        log = self.folder / "trace"
        self.call(["strace", "-f", "-qq", "-o", str(log), self.spore, *argv])
        calls = collections.Counter()
        for line in log.read_text(errors="replace").splitlines():
            found = re.match(r"(\d+) +([a-z_0-9]+)\(", line)
            if found:
                calls[found.groups()] += 1
        most = collections.Counter()
        for (_, call), n in calls.items():
            most[call] = max(most[call], n)
        return {c: n for c, n in most.items() if c not in EXCLUDED}

    def sweep(self, name, argv):
        for call, times in sorted(self.count(argv).items()):
            step = max(1, -(-times // self.most))
            for number in range(1, times + 1, step):
                for error in ERRORS:
                    self.inject(name, argv, call, number, error)

    def inject(self, name, argv, call, number, error):
        self.runs += 1
        status, err = self.call([
            "strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
            f"inject={call}:error={error}:when={number}", self.spore, *argv])
        what = None
        if any(c in err for c in CONTRACTS):
            return
        if status is None:
            what = f"hangs for {LIMIT_S} s"
        elif status < 0 or status in (128 + signal.SIGABRT, 128 + signal.SIGSEGV):
            what = f"ended by signal {abs(status) % 128}"
        elif re.search(r"[Aa]ssert|Sanitizer|stack smashing", err):
            what = "an assertion"
        elif status == 125 and not err and (call, number <= 3) != (
                "fcntl", True):
            # Those ask whether there are standard streams: where there are none
            # there is nobody to tell.
            what = "an error without a word"
        if what is not None:
            text = (f"{name}: {call} number {number}: {error}: {what}: "
                    f"{err.splitlines()[-1] if err else ''}")
            self.wrong.append(text)
            print(text, flush=True)


def main():
    args = parse()
    if shutil.which("strace") is None:
        sys.exit("faults.py: strace is missing: apt-get install strace")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("faults.py: terminated"))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="faults.", dir="/var/tmp"))
    folder.chmod(0o755)
    build = args.build.resolve()
    faults = Faults(args, folder)
    try:
        faults.prepare(build)
        all_commands = commands(build, folder)
        for name in args.commands or all_commands:
            if name not in all_commands:
                sys.exit(f"faults.py: {name}: one of {', '.join(all_commands)}")
            began, before = time.monotonic(), faults.runs
            faults.sweep(name, all_commands[name])
            print(f"{name}: {faults.runs - before} runs, "
                  f"{time.monotonic() - began:.0f} s", flush=True)
    finally:
        faults.kill_marked()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{faults.runs} runs, {len(faults.wrong)} wrong")
    sys.exit(1 if faults.wrong else 0)


if __name__ == "__main__":
    main()
