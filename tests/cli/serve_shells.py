#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients of `spore serve TEMPLATE -- sh`: each connection is a script for a
shell in a Linux guest of its own, up to the end of what the client sends.

    serve_shells.py neighbours SOCKET COUNT   16 clients of COUNT scripts each,
                                              beside others that use up, end or
                                              hold up the machine they get
    serve_shells.py disk SOCKET COUNT         whether the disk of a machine, and
                                              what its guest has written to its
                                              files, has anything of earlier ones

Prints what came of it; the exit status is not 0 if anything was not as it
should be.
"""

import secrets
import socket
import statistics
import sys
import threading
import time

HEALTHY = 16
BAD = {
    "end of its machine": "poweroff -f; sleep 1000",
    "kill of all": "kill -9 -1; sleep 1000",
    "full disk": "cat /dev/zero > /dev/vdb; cat /dev/zero > /tmp/fill; "
                 "sleep 1000",
    "full memory": "tail /dev/zero; sleep 1000",
    "forks without end": "f() { f | f & }; f; sleep 1000",
    "no answer": "sleep 1000",
}


def connect(path, script):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(600)
    client.connect(path)
    client.sendall(script.encode())
    client.shutdown(socket.SHUT_WR)
    return client


def ask(path, script):
    """All that a shell has said until its connection was closed."""
    said = b""
    with connect(path, script) as client:
        while (more := client.recv(65536)):
            said += more
    return said.decode(errors="replace")


def begin(path, script, done):
    """Whether a shell has begun a script, which it is left to until its
    connection is closed, or `done` is set."""
    begun = False
    with connect(path, "echo begun; " + script) as client:
        client.settimeout(0.5)
        while not done.is_set():
            try:
                said = client.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break  # as good an end as any
            if not said:
                break
            begun = True
    return begun


def neighbours(path, count):
    failures = []
    seconds = []
    times = dict.fromkeys(BAD, 0)
    done = threading.Event()

    def be_healthy(number):
        for i in range(count):
            start = time.monotonic()
            try:
                said = ask(path, f"echo $(({number} * 1000 + {i}))")
            except OSError as problem:
                said = repr(problem)
            seconds.append(time.monotonic() - start)
            if said != f"{number * 1000 + i}\n":
                failures.append(f"client {number}, script {i}: {said}")

    def be_bad(kind):
        while not done.is_set():
            times[kind] += begin(path, BAD[kind], done)

    bad = [threading.Thread(target=be_bad, args=(kind,)) for kind in BAD]
    good = [threading.Thread(target=be_healthy, args=(i,))
            for i in range(HEALTHY)]
    for thread in bad:
        thread.start()
    time.sleep(3)  # they have their machines by then
    for thread in good:
        thread.start()
    for thread in good:
        thread.join()
    done.set()
    for thread in bad:
        thread.join()
    print(f"{HEALTHY * count} scripts of {HEALTHY} clients, {len(failures)} "
          f"of them failed; median {statistics.median(seconds):.2f} s, "
          f"longest {max(seconds):.2f} s; beside them:")
    for kind, number in times.items():
        print(f"  {kind}: {number} times")
    for failure in failures:
        print(failure)
    return not failures and all(times.values())


def disk(path, count):
    for i in range(count):
        marker = f"trace-{secrets.token_hex(8)}"
        # Somewhere else each time: what was written over shows nothing.
        said = ask(path, f"""
            grep -c trace- /dev/vdb; ls /tmp | grep -c trace-
            echo {marker} | dd of=/dev/vdb bs=4096 seek={i * 7} 2> /dev/null
            sync; echo 3 > /proc/sys/vm/drop_caches; > /tmp/{marker}
            grep -c {marker} /dev/vdb; ls /tmp | grep -c {marker}""")
        if said.split() != ["0", "0", "1", "1"]:
            print(f"script {i}: {said}")
            return False
    print(f"{count} markers, each on its machine's disk and in its files, and "
          "on none that came later")
    return True


def main():
    commands = {"neighbours": neighbours, "disk": disk}
    sys.exit(0 if commands[sys.argv[1]](sys.argv[2], int(sys.argv[3])) else 1)


main()
