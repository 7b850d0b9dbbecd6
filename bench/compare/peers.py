# SPDX-License-Identifier: Apache-2.0
"""How each contender runs a bare guest, and saves and restores one."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import time

import measure

SPORE = "spore"
SPORE_OPEN = "spore --jail=off"
QEMU = "qemu microvm"

READY_S = 60
SAVE_S = 120


def await_ready(process):
    """Reads what the guest says until it waits to be saved."""
    os.set_blocking(process.stdout.fileno(), False)
    said = b""
    end = time.monotonic() + READY_S
    while b"ready" not in said:
        if process.poll() is not None or time.monotonic() > end:
            raise measure.Failure(f"{process.args[0]}: the guest is not ready")
        said += process.stdout.read() or b""
        time.sleep(0.01)


def start_beacon(argv):
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL)


def end_process(process):
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        pipe.close()


class Spore:
    """The build's spore, all of its files below a folder of our own."""

    def __init__(self, build, folder):
        self.build = pathlib.Path(build).resolve()
        self.folder = pathlib.Path(folder)
        self.binary = str(self.build / "spore")
        self.store = self.folder / "store"
        for name in ("run", "data"):
            (self.folder / name).mkdir(mode=0o700)
        os.environ["XDG_RUNTIME_DIR"] = str(self.folder / "run")
        os.environ["XDG_DATA_HOME"] = str(self.folder / "data")
        os.environ["SPORE_COLD"] = "1"

    def guest(self, name):
        return str(self.build / "tests" / "guests" / f"{name}.elf")

    def bench(self, name):
        return str(self.build / "bench" / f"bench_{name}")

    def boot(self, guest, mem=128, jail=None):
        argv = [self.binary, "run", "--kernel", self.guest(guest), "--console",
                "--mem", str(mem), "--timeout", "600"]
        return argv + ([f"--jail={jail}"] if jail else [])

    def restore(self, mem=128, jail=None):
        argv = [self.binary, "restore", f"beacon-{mem}", "--store",
                str(self.store), "--console", "--timeout", "600"]
        return argv + ([f"--jail={jail}"] if jail else [])

    def freeze_beacon(self, mem, series=None, times=1):
        """Saves a machine that waits; as a snapshot if series is None."""
        process = start_beacon(self.boot("beacon", mem) + ["--id", "beacon"])
        try:
            await_ready(process)
            for _ in range(times):
                self._save(mem, series)
        finally:
            end_process(process)

    def _save(self, mem, series):
        argv = [self.binary, "save", "beacon", "--no-sync", "--json", "--store",
                str(self.store)]
        if series is None:
            measure.run(argv + ["--name", f"beacon-{mem}"], SAVE_S)
            # The first restore finds out what pages are needed first.
            measure.run([self.bench("first_byte"), "-n", "2", "-i", "-K", "--",
                         *self.restore(mem)], SAVE_S)
            return
        begin = time.monotonic()
        told = json.loads(measure.run(argv, SAVE_S))
        series.add("save", "ms", [(time.monotonic() - begin) * 1e3])
        series.add("stopped", "ms", [told["stopped_us"] / 1e3])
        measure.run([self.binary, "snapshot", "rm", "--store", str(self.store),
                     told["id"]], SAVE_S)

    def freeze_function(self):
        """A template of the guest that serves; returns its store."""
        process = start_beacon(
            self.boot("function") +
            ["--id", "function", "--vsock", str(self.folder / "vsock")])
        try:
            await_ready(process)
            measure.run([self.binary, "template", "freeze", "--replace",
                         "function", "function", "--vsock-port", "5001"], SAVE_S)
        finally:
            end_process(process)
        told = json.loads(measure.run(
            [self.binary, "template", "inspect", "--json", "function"], 60))
        return told["store"]


class Qemu:
    """Debian's qemu-system-x86_64, machine microvm without what the guests do
    not need; a snapshot is a migration to a file, running."""

    binary = "qemu-system-x86_64"

    def __init__(self, spore, folder):
        self.spore = spore
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()

    @classmethod
    def is_there(cls):
        return shutil.which(cls.binary) is not None

    def _machine(self, mem):
        return [self.binary, "-M", "microvm,acpi=off,pit=off,pic=off,rtc=off",
                "-accel", "kvm", "-cpu", "host,-arch-capabilities",
                "-m", str(mem), "-nodefaults", "-no-user-config",
                "-display", "none", "-serial", "stdio", "-no-reboot",
                "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]

    def boot(self, guest, mem=128):
        return self._machine(mem) + ["-kernel", self.spore.guest(guest)]

    def _image(self, mem):
        return self.folder / f"beacon-{mem}.migration"

    def restore(self, mem=128):
        return self.boot("beacon", mem) + [
            "-incoming", f"exec:cat {self._image(mem)}"]

    def freeze_beacon(self, mem, series=None):
        path = self.folder / "qmp"
        process = start_beacon(self.boot("beacon", mem) + [
            "-qmp", f"unix:{path},server=on,wait=off"])
        try:
            await_ready(process)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(SAVE_S)
                sock.connect(str(path))
                self._migrate(sock.makefile("rw"), mem, series)
        except OSError as e:
            raise measure.Failure(f"{self.binary}: QMP: {e}") from e
        finally:
            end_process(process)
            path.unlink(missing_ok=True)

    def _migrate(self, qmp, mem, series):
        qmp.readline()
        command(qmp, "qmp_capabilities")
        command(qmp, "migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        begin = time.monotonic()
        command(qmp, "migrate", uri=f"exec:cat > {self._image(mem)}")
        while True:
            told = command(qmp, "query-migrate")
            if told.get("status") == "completed":
                break
            if told.get("status") == "failed" or (
                    time.monotonic() - begin > SAVE_S):
                raise measure.Failure(f"{self.binary}: migrate: {told}")
            time.sleep(0.001)
        if series is not None:
            series.add("save", "ms", [(time.monotonic() - begin) * 1e3])
            series.add("stopped", "ms", [told["downtime"]])


def command(qmp, name, **arguments):
    qmp.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
    qmp.flush()
    while True:
        line = qmp.readline()
        if not line:
            raise measure.Failure(f"qemu: {name}: it has ended")
        told = json.loads(line)
        if "return" in told:
            return told["return"]
        if "error" in told:
            raise measure.Failure(f"qemu: {name}: {told['error'].get('desc')}")
