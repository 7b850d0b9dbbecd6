#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients of `spore serve --http` with the guest of tests/guests/function.c,
which answers how many requests its machine has had.

    serve_client.py requests SOCKET COUNT      one after the other
    serve_client.py neighbours SOCKET COUNT    16 clients of COUNT requests each,
                                               beside others that end, break or
                                               hold up the machine they get
    serve_client.py traces SOCKET COUNT        whether the machine of a request
                                               has anything of earlier ones
    serve_client.py rude SOCKET COUNT          half requests, and worse

Prints what came of it; the exit status is not 0 if anything was not as it
should be.
"""

import os
import re
import secrets
import socket
import sys
import threading
import time

HEALTHY = 16
BAD = ("/exit", "/fault", "/hang", "/junk")


class Connection:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def send(self, target, close=False):
        end = "Connection: close\r\n" if close else ""
        self.socket.sendall(
            f"GET {target} HTTP/1.1\r\nHost: spore\r\n{end}\r\n".encode())

    def receive(self):
        status = self.file.readline()
        if not status:
            raise EOFError("closed")
        length = None
        chunked = False
        while (line := self.file.readline().strip().lower()):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            chunked |= line == b"transfer-encoding: chunked"
        if chunked:
            body = b""
            while (size := int(self.file.readline(), 16)) > 0:
                body += self.file.read(size)
                self.file.readline()
            self.file.readline()
        else:
            body = self.file.read(length)
        return int(status.split()[1]), body

    def close(self):
        self.file.close()
        self.socket.close()


def ask(connection):
    connection.send("/")
    answer = connection.receive()
    if answer != (200, b"1\n"):
        raise ValueError(f"the answer is {answer}")


def requests(path, count):
    connection = Connection(path)
    for _ in range(count):
        ask(connection)
    connection.close()
    print(f"{count} requests, each the first of its machine")
    return True


def neighbours(path, count):
    failures = []
    outcomes = {}
    done = threading.Event()

    def be_healthy():
        try:
            connection = Connection(path)
            for _ in range(count):
                ask(connection)
            connection.close()
        except Exception as problem:
            failures.append(repr(problem))

    def be_bad(target):
        while not done.is_set():
            try:
                connection = Connection(path)
                connection.send(target, close=True)
                status = connection.receive()[0]
                connection.close()
            except (EOFError, OSError):
                status = "closed"
            outcomes[target, status] = outcomes.get((target, status), 0) + 1

    bad = [threading.Thread(target=be_bad, args=(t,)) for t in BAD]
    good = [threading.Thread(target=be_healthy) for _ in range(HEALTHY)]
    for thread in bad + good:
        thread.start()
    for thread in good:
        thread.join()
    done.set()
    for thread in bad:
        thread.join()
    print(f"{HEALTHY * count} requests of {HEALTHY} clients, "
          f"{len(failures)} of them failed; beside them:")
    for (target, status), times in sorted(outcomes.items(), key=str):
        print(f"  {target}: {times} times {status}")
    for failure in failures:
        print(failure)
    # Each of the others was there at all.
    return not failures and {t for t, _ in outcomes} == set(BAD)


def clones():
    """The processes of clones, by the time they began."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm") as file:
                if file.read() != "spore-clone\n":
                    continue
            with open(f"/proc/{pid}/stat") as file:
                began = int(file.read().rsplit(")")[1].split()[19])
        except OSError:
            continue
        found.append((began, int(pid)))
    return [pid for _, pid in sorted(found)]


def guest_memory(pid):
    """What of the process may be its guest's memory: all but its own files,
    heap and stacks."""
    with open(f"/proc/{pid}/maps") as file:
        maps = [re.match(r"(\w+)-(\w+) rw.. \S+ \S+ \S+ *(.*)", line)
                for line in file]
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for found in filter(None, maps):
            start, end = int(found[1], 16), int(found[2], 16)
            name = found[3].strip()
            if name and "/mem-" not in name:
                continue
            memory.seek(start)
            try:
                yield memory.read(end - start)
            except OSError:
                continue


def holders(markers):
    """Which of the markers are in the memory of a clone."""
    found = set()
    for pid in clones():
        try:
            for block in guest_memory(pid):
                found |= {m for m in markers if m in block}
        except OSError:
            continue
    return found


def hold(path, marker):
    """A request that is never answered; until its machine has it."""
    connection = Connection(path)
    connection.send("/hang" + marker.decode())
    for _ in range(600):
        if holders({marker}):
            return connection
        time.sleep(0.05)
    raise TimeoutError("no machine has the request")


def traces(path, count):
    markers = set()
    for _ in range(count):
        marker = secrets.token_hex(16).encode()
        held = hold(path, marker)
        left = holders(markers)
        if left:
            print(f"{len(left)} earlier requests are in memory of clones")
            return False
        held.close()
        markers.add(marker)
        connection = Connection(path)
        ask(connection)
        connection.close()
    print(f"{count} markers, each found while its machine was there "
          "and in none that came later")
    return True


def rude(path, count):
    texts = (b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\0" * 100,
             b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc",
             b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 50,
             b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    for i in range(count):
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        client.sendall(texts[i % len(texts)])
        client.close()
    ask(Connection(path))
    print(f"{count} connections that were dropped, and one that was served")
    return True


def main():
    commands = {"requests": requests, "neighbours": neighbours,
                "traces": traces, "rude": rude}
    sys.exit(0 if commands[sys.argv[1]](sys.argv[2], int(sys.argv[3])) else 1)


main()
