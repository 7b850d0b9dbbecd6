# SPDX-License-Identifier: Apache-2.0
"""The machines of a soak: what was done to each, and what it must answer."""

import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import threading
import time

import census

LIMIT_S = 120


class Failure(Exception):
    """Something was not as it must be."""


@dataclasses.dataclass
class Vm:
    name: str
    count: int = 0  # requests that its guest has had
    socket: pathlib.Path = None  # of its vsock; clones have none
    levels: list = dataclasses.field(default_factory=list)
    is_linux: bool = False


class Gate:
    """Operations pass; who closes it waits until none is under way."""

    def __init__(self):
        self._condition = threading.Condition()
        self._inside = 0
        self._is_closed = False

    def enter(self):
        with self._condition:
            self._condition.wait_for(lambda: not self._is_closed)
            self._inside += 1

    def leave(self):
        with self._condition:
            self._inside -= 1
            self._condition.notify_all()

    def close(self):
        with self._condition:
            self._is_closed = True
            self._condition.wait_for(lambda: self._inside == 0)

    def open(self):
        with self._condition:
            self._is_closed = False
            self._condition.notify_all()


class World:
    """The folder, the programs, and everything that was counted."""

    def __init__(self, build, folder, mark, room):
        self.build = pathlib.Path(build).resolve()
        self.folder = folder
        self.mark = mark
        self.store = folder / "store"
        self.gate = Gate()
        self.begin = time.monotonic()
        self.lock = threading.Lock()
        self.room = threading.BoundedSemaphore(room)
        self.alive = set()
        self.most_alive = 0
        self.samples = {}  # operation: [(seconds since the begin, duration)]
        self.failures = []
        self.names = 0
        for name in ("run", "data", "tmp"):
            (folder / name).mkdir(mode=0o700)
        self.env = dict(os.environ, XDG_RUNTIME_DIR=str(folder / "run"),
                        XDG_DATA_HOME=str(folder / "data"),
                        TMPDIR=str(folder / "tmp"), SPORE_COLD="1")
        self.env[census.MARK] = mark

    def guest(self, name):
        return str(self.build / "tests" / "guests" / f"{name}.elf")

    def spore(self, *argv, status=0):
        """Runs a command to its end and returns its output."""
        argv = [str(self.build / "spore"), *map(str, argv)]
        # What is detached is to have none of our pipes.
        with open(self.folder / f"err-{threading.get_ident()}", "w+",
                  encoding="utf-8", errors="replace") as err:
            try:
                done = subprocess.run(argv, stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=err,
                                      text=True, errors="replace", env=self.env,
                                      cwd=self.folder, timeout=LIMIT_S,
                                      check=False)
            except subprocess.TimeoutExpired as e:
                raise Failure(f"{' '.join(argv[1:])}: hangs") from e
            err.seek(0)
            text = err.read().strip()
        if done.returncode != status:
            raise Failure(f"{' '.join(argv[1:])}: status {done.returncode}, not "
                          f"{status}: {text}")
        return done.stdout.strip()

    def new_name(self, kind):
        with self.lock:
            self.names += 1
            return f"{self.mark}-{kind}{self.names}"

    def record(self, operation, began, failure=None):
        now = time.monotonic()
        with self.lock:
            self.samples.setdefault(operation, []).append(
                (began - self.begin, now - began))
            if failure is not None:
                self.failures.append({"operation": operation,
                                      "at_s": round(now - self.begin, 1),
                                      "what": str(failure)})

    def came(self, vm):
        with self.lock:
            self.alive.add(vm.name)
            self.most_alive = max(self.most_alive, len(self.alive))

    def went(self, vm):
        with self.lock:
            self.alive.discard(vm.name)
        self.room.release()

    # ---- what a machine answers ----

    def ask(self, vm):
        """The guest counts what it was asked, or a file of its agent's does."""
        got = self._ask_linux(vm) if vm.is_linux else self._ask_bare(vm)
        vm.count += 1
        if got != vm.count:
            raise Failure(f"{vm.name}: the answer is {got}, not {vm.count}")

    def _ask_linux(self, vm):
        text = self.spore("exec", vm.name, "--", "sh", "-c",
                          "echo x >> /tmp/soak; wc -l < /tmp/soak")
        return int(text)

    def _ask_bare(self, vm):
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(LIMIT_S)
                # Short enough for sun_path wherever the folder is.
                s.connect(os.path.relpath(vm.socket))
                s.sendall(b"CONNECT 5001\n")
                file = s.makefile("rb")
                if not file.readline().startswith(b"OK "):
                    raise Failure(f"{vm.name}: vsock is refused")
                s.sendall(b"GET / HTTP/1.1\r\n\r\n")
                return int(file.read().rpartition(b"\r\n\r\n")[2])
        except (OSError, ValueError) as e:
            raise Failure(f"{vm.name}: no answer: {e}") from e

    # ---- who is there ----

    def machines(self):
        return {m["id"]: m for m in json.loads(self.spore("ps", "--json"))}

    def await_gone(self, vm, pids):
        """Its processes, its place, and its name."""
        end = time.monotonic() + LIMIT_S
        while any(census.is_alive(p) for p in pids):
            if time.monotonic() > end:
                raise Failure(f"{vm.name}: a process stays: {pids}")
            time.sleep(0.01)
        # A process whose first thread has ended may have others for a moment.
        while vm.name in self.machines():
            if time.monotonic() > end:
                raise Failure(f"{vm.name}: ps has it though it is gone")
            time.sleep(0.01)
        if (self.folder / "run" / "spore" / vm.name).exists():
            raise Failure(f"{vm.name}: its folder stays")
        if vm.socket is not None:
            vm.socket.unlink(missing_ok=True)
