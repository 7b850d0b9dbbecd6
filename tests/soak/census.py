# SPDX-License-Identifier: Apache-2.0
"""What a soak has on this host, found from outside: by a mark in the
environment of its processes and by its folder's name."""

import os
import pathlib

MARK = "SPORE_SOAK_MARK"


def _read(path):
    try:
        return pathlib.Path(path).read_bytes()
    except OSError:
        return b""


def processes(mark):
    """Process ids of all that carry the mark, with their names."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and wanted in _read(f"/proc/{entry}/environ").split(
                b"\0"):
            found[int(entry)] = _read(f"/proc/{entry}/comm").decode(
                errors="replace").strip()
    return found


def is_alive(pid):
    """Zombies are dead: they wait for their parent only."""
    text = _read(f"/proc/{pid}/stat").decode(errors="replace")
    return bool(text) and text.rpartition(")")[2].split()[0] not in "ZX"


def parent(pid):
    text = _read(f"/proc/{pid}/stat").decode(errors="replace")
    return int(text.rpartition(")")[2].split()[1]) if text else 0


def footprint(pid):
    """Open descriptors and resident KiB; None if it is gone."""
    try:
        fds = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None
    for line in _read(f"/proc/{pid}/status").decode().splitlines():
        if line.startswith("VmRSS:"):
            return {"fds": fds, "rss_kib": int(line.split()[1])}
    return None


def _lines_with(path, text):
    return sorted(line for line in _read(path).decode(errors="replace")
                  .splitlines() if text in line)


def orphaned_cgroups():
    """Those of monitors, spore-PID, whose process is gone."""
    found = set()
    for root, folders, _ in os.walk("/sys/fs/cgroup"):
        for name in folders:
            pid = name.removeprefix("spore-")
            if name.startswith("spore-") and pid.isdigit() and (
                    not is_alive(pid)):
                found.add(os.path.join(root, name))
    return found


def _entries(folder):
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def leftovers(mark, folder, cgroups_before):
    """All that is to be empty when nothing runs, by what it is."""
    found = {
        "processes": [f"{pid} {name}" for pid, name in processes(mark).items()],
        "mounts": _lines_with("/proc/self/mountinfo", mark),
        "sockets": _lines_with("/proc/net/unix", str(folder)),
        "cgroups": sorted(orphaned_cgroups() - cgroups_before),
        "machines": _entries(folder / "run" / "spore"),
        "temporary files": _entries(folder / "tmp"),
        "shared memory": [n for n in _entries("/dev/shm") if mark in n],
    }
    servers = folder / "run" / "spore" / "servers"
    if servers.is_dir():
        found["machines"].remove("servers")
        found["servers"] = _entries(servers)
    return found


def memory():
    """MiB of the host; other programs move it too."""
    wanted = ("MemAvailable", "Shmem", "SUnreclaim", "PageTables", "KernelStack")
    found = {}
    for line in _read("/proc/meminfo").decode().splitlines():
        name, value = line.split(":")
        if name in wanted:
            found[name] = round(int(value.split()[0]) / 1024, 1)
    return found
