# SPDX-License-Identifier: Apache-2.0
"""Who does things to machines, at random, each to its own."""

import os
import random
import signal
import socket
import subprocess
import threading
import time

import census
from world import LIMIT_S, Failure, Vm

SNAPSHOTS = 6  # a worker keeps


class Worker(threading.Thread):
    """Does one operation after the other until it is told to stop."""

    pause_s = 0

    def __init__(self, world, seed, name):
        super().__init__(name=name)
        self.world = world
        self.random = random.Random(seed)
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.is_set():
            self.world.gate.enter()
            try:
                self.step()
            finally:
                self.world.gate.leave()

    def step(self):
        choices = self.operations()
        # Not an operation: what leaves the processors to others.
        time.sleep(self.pause_s)
        name = self.random.choices(list(choices),
                                   [w for w, _ in choices.values()])[0]
        self.do(name, choices[name][1])

    def do(self, name, function):
        began = time.monotonic()
        try:
            recorded = function() or name
        except Failure as failure:
            self.world.record(name, began, failure)
        except Exception as bug:  # pylint: disable=broad-except
            # Of the soak's own, which is no less of a failure.
            self.world.record(name, began, f"soak: {type(bug).__name__}: {bug}")
        else:
            self.world.record(recorded, began)


class Machines(Worker):
    """Boots, clones, saves, restores, resets and kills machines."""

    def __init__(self, world, seed, name, most, linux=None):
        super().__init__(world, seed, name)
        self.most = most
        # Where guest kernels are interpreted, Linux needs what others leave.
        self.pause_s = 0 if linux else 0.03
        self.linux = linux  # a snapshot; None: bare guests
        self.vms = []
        self.snapshots = []  # (name, count)

    def operations(self):
        prefix = "linux " if self.linux else ""
        ops = {}
        alive = [vm for vm in self.vms if vm.socket or vm.is_linux]
        saved = [vm for vm in self.vms if not vm.levels]
        levelled = [vm for vm in alive if vm.levels]

        def add(weight, name, function, among=None):
            if among is None:
                ops[prefix + name] = (weight, function)
            elif among:
                ops[prefix + name] = (
                    weight, lambda: function(self.random.choice(among)))

        has_room = len(self.vms) < self.most
        if has_room and not self.linux:
            add(4, "boot", self.boot)
        if has_room and (self.snapshots or self.linux):
            add(4, "restore", self.restore)
        add(8, "exec" if self.linux else "request", self.world.ask, alive)
        add(2, "push", self.push, alive)
        add(4, "reset", self.reset, levelled)
        add(2, "save", self.save, saved)
        if has_room:
            add(2, "clone", self.clone, saved)
        add(1, "pause, resume", self.pause, self.vms)
        add(1, "ps", self.list)
        add(2, "kill", self.kill, self.vms)
        add(2, "kill -9", self.murder, self.vms)
        if self.snapshots:
            add(1, "verify", self.verify)
        return ops

    # ---- machines come ----

    def _add(self, vm):
        self.vms.append(vm)
        self.world.came(vm)

    def _start(self, vm, *argv):
        """Has a place for it, or none is left now and nothing is done."""
        if not self.world.room.acquire(timeout=1):
            return "no room"
        try:
            if not vm.is_linux:
                vm.socket = self.world.folder / f"v-{vm.name}"
                argv += ("--console", "--vsock", vm.socket)
            self.world.spore(*argv, "--detach", "--id", vm.name)
        except Failure:
            self.world.room.release()
            raise
        self._add(vm)
        return None

    def boot(self):
        vm = Vm(self.world.new_name("b"))
        options = ["--rootfs", "none", "--kernel", self.world.guest("function")]
        if os.geteuid() == 0 and self.random.random() < 0.3:
            options += ["--memory-max", "256M"]
        skipped = self._start(vm, "run", *options)
        if skipped is None:
            self._await_ready(vm)
        return skipped

    def _await_ready(self, vm):
        log = self.world.folder / "run" / "spore" / vm.name / "log"
        end = time.monotonic() + LIMIT_S
        while b"ready" not in log.read_bytes():
            if time.monotonic() > end:
                raise Failure(f"{vm.name}: the guest is not ready")
            time.sleep(0.01)

    def restore(self):
        if self.linux and (not self.snapshots or self.random.random() < 0.5):
            name, count = self.linux, 0
        else:
            name, count = self.random.choice(self.snapshots)
        vm = Vm(self.world.new_name("r"), count, is_linux=bool(self.linux))
        return self._start(vm, "restore", name, "--store", self.world.store)

    def clone(self, of):
        if not self.world.room.acquire(timeout=1):
            return "no room"
        try:
            name = self.world.spore("clone", of.name)
        except Failure:
            self.world.room.release()
            raise
        self._add(Vm(name, of.count, is_linux=of.is_linux))
        return None

    # ---- and live ----

    def push(self, vm):
        level = int(self.world.spore("push", vm.name))
        if level != len(vm.levels):
            raise Failure(f"{vm.name}: push says {level}, not {len(vm.levels)}")
        vm.levels.append(vm.count)

    def reset(self, vm):
        level = self.random.randrange(len(vm.levels))
        self.world.spore("reset", vm.name, level)
        vm.count = vm.levels[level]
        del vm.levels[level + 1:]
        self.world.ask(vm)

    def save(self, vm):
        name = self.world.new_name("s")
        self.world.spore("save", "--no-sync", "--store", self.world.store,
                         "--name", name, vm.name)
        self.snapshots.append((name, vm.count))
        if len(self.snapshots) > SNAPSHOTS:
            old, _ = self.snapshots.pop(
                self.random.randrange(len(self.snapshots)))
            self.world.spore("snapshot", "rm", "--store", self.world.store, old)

    def verify(self):
        name, _ = self.random.choice(self.snapshots)
        self.world.spore("snapshot", "verify", "--store", self.world.store, name)

    def pause(self, vm):
        self.world.spore("pause", vm.name)
        self.world.spore("resume", vm.name)

    def list(self):
        gone = {vm.name for vm in self.vms} - set(self.world.machines())
        if gone:
            raise Failure(f"ps does not have {', '.join(gone)}")

    # ---- and go ----

    def _pids(self, vm):
        monitor = self.world.machines()[vm.name]["pid"]
        family = census.processes(self.world.mark)
        keeper = census.parent(monitor)
        # A keeper's own parent is whoever adopts what is detached.
        return [monitor, keeper] if keeper in family and (
            census.parent(keeper) not in family) else [monitor]

    def _remove(self, vm):
        self.vms.remove(vm)
        self.world.went(vm)

    def kill(self, vm):
        pids = self._pids(vm)
        self._remove(vm)
        self.world.spore("kill", vm.name)
        self.world.await_gone(vm, pids)

    def murder(self, vm):
        """The monitor, or the keeper that is outside its jail."""
        pids = self._pids(vm)
        self._remove(vm)
        os.kill(self.random.choice(pids), signal.SIGKILL)
        self.world.await_gone(vm, pids)

    def end(self):
        for vm in list(self.vms):
            self.do("kill", lambda vm=vm: self.kill(vm))


class Served(Worker):
    """A server: asked, and killed with all that it has."""

    pause_s = 0.01

    def __init__(self, world, seed, name):
        super().__init__(world, seed, name)
        self.process = None
        self.path = world.folder / "http"
        self.footprints = []
        self.is_hurt = False
        self.refusal = None
        self.since = 0

    def operations(self):
        return {"serve: request": (60, self.ask),
                "serve: kill -9 of a clone": (1, self.kill_clone),
                "serve: kill -9 of the zygote": (0.3, self.kill_zygote),
                "serve: kill -9 of the server": (0.3, self.kill_server)}

    def start(self):
        self.do("serve: start", self.start_server)
        super().start()

    def start_server(self):
        reuse = self.random.choice(("none", "reset"))
        self.process = subprocess.Popen(
            [str(self.world.build / "spore"), "serve", "--http", "--listen",
             f"unix:{self.path}", "--max-vms", "4", "--ready", "2", "--reuse",
             reuse, "function"], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=self.world.env)
        end = time.monotonic() + LIMIT_S
        while self._request() != b"1\n":
            if time.monotonic() > end or self.process.poll() is not None:
                raise Failure("the server gives no answer")
            time.sleep(0.02)

    def _request(self):
        """The body of an answer, or None; what it was instead is `refusal`."""
        self.refusal = None
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(LIMIT_S)
                s.connect(os.path.relpath(self.path))
                s.sendall(b"GET / HTTP/1.1\r\nHost: spore\r\n"
                          b"Connection: close\r\n\r\n")
                head, _, body = s.makefile("rb").read().partition(b"\r\n\r\n")
        except OSError as e:
            self.refusal = str(e)
            return None
        if not head.startswith(b"HTTP/1.1 200"):
            self.refusal = (head + body).decode(errors="replace") or "closed"
            return None
        return b"1\n" if b"1\n" in body else body

    def ask(self):
        self.since += 1
        body = self._request()
        if body is None and self.is_hurt:
            # A clone that is killed costs one request at the most.
            self.is_hurt = False
            return "serve: request of a killed clone"
        if body != b"1\n":
            raise Failure(f"the answer is {body or self.refusal}, not that of a "
                          f"fresh machine; a clone was killed {self.since} "
                          "requests before")
        return None

    def _family(self, comm):
        """Those of this server, by name."""
        found = []
        for pid, name in census.processes(self.world.mark).items():
            above = pid
            while above > 1 and above != self.process.pid:
                above = census.parent(above)
            if above == self.process.pid and name == comm:
                found.append(pid)
        return found

    def kill_clone(self):
        clones = self._family("spore-clone")
        if not clones:
            return "no clone"
        try:
            os.kill(self.random.choice(clones), signal.SIGKILL)
        except ProcessLookupError:
            # It had served, and was on its way out.
            return "no clone"
        self.is_hurt = True
        self.since = 0
        return None

    def _all(self):
        return [self.process.pid, *self._family("spore-zygote"),
                *self._family("spore-clone")]

    def _await_end(self, pids, wanted):
        status = self.process.wait(LIMIT_S)
        if status != wanted:
            raise Failure(f"the server has ended with {status}, not {wanted}")
        end = time.monotonic() + LIMIT_S
        while any(census.is_alive(p) for p in pids):
            if time.monotonic() > end:
                raise Failure("what belongs to a server stays when it ends")
            time.sleep(0.01)
        self.is_hurt = False

    def kill_zygote(self):
        zygotes = self._family("spore-zygote")
        if not zygotes:
            raise Failure("the server has no zygote")
        pids = self._all()
        os.kill(zygotes[0], signal.SIGKILL)
        self._await_end(pids, 125)
        self.footprints = []
        self.start_server()

    def kill_server(self):
        pids = self._all()
        self.process.kill()
        self._await_end(pids, -signal.SIGKILL)
        # What it leaves is removed by who looks at what is there.
        self.world.spore("top", "--once")
        self.footprints = []
        self.start_server()

    def end(self):
        self.do("serve: end", self.end_server)

    def end_server(self):
        if self.process is None or self.process.poll() is not None:
            raise Failure("the server has ended by itself")
        pids = self._all()
        self.process.terminate()
        self._await_end(pids, 0)


class Veteran(Worker):
    """One machine that nobody kills, put back and asked for the whole time."""

    pause_s = 0.05

    def __init__(self, world, seed, name):
        super().__init__(world, seed, name)
        self.machines = Machines(world, seed, name, 1)
        self.vm = None
        self.pid = None

    def start(self):
        self.do("boot", self.machines.boot)
        if self.machines.vms:
            self.vm = self.machines.vms[0]
            self.pid = self.world.machines()[self.vm.name]["pid"]
            self.do("push", lambda: self.machines.push(self.vm))
            super().start()

    def operations(self):
        return {"request": (4, lambda: self.world.ask(self.vm)),
                "reset": (2, lambda: self.machines.reset(self.vm))}

    def end(self):
        self.machines.end()


def freeze_function(world):
    """The template that servers serve."""
    maker = Machines(world, 0, "maker", 1)
    if maker.boot() is None:
        vm = maker.vms[0]
        world.spore("template", "freeze", "function", vm.name, "--vsock-port",
                    "5001")
        maker.kill(vm)


def freeze_linux(world):
    """A snapshot of a Linux guest, or None and why there is none."""
    name = world.new_name("linux")
    try:
        world.spore("run", "--detach", "--id", name, "--timeout", "600")
    except Failure as failure:
        return None, str(failure)
    world.spore("save", "--no-sync", "--store", world.store, "--name", name, name)
    world.spore("kill", name)
    return name, None


