# SPDX-License-Identifier: Apache-2.0
# Many clients of one control socket at once: some ask and compare the answer,
# some send half a body and go, some stop reading, some are killed (their
# process is) in the middle. Usage: api_storm.py SOCKET CLIENTS SECONDS
import os
import random
import signal
import socket
import sys
import time

PATH, CLIENTS, SECONDS = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
VERSION = (b"HTTP/1.1 200 \r\nServer: Firecracker API\r\n"
           b"Connection: keep-alive\r\nContent-Type: application/json\r\n"
           b"Content-Length: 32\r\n\r\n{\"firecracker_version\":\"1.17.0\"}")
FULL = b"HTTP/1.1 503 "


def connect():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(PATH)
    return s


def ask(s):
    s.sendall(b"GET /version HTTP/1.1\r\n\r\n")
    got = b""
    while len(got) < len(VERSION):
        more = s.recv(4096)
        if not more:
            break
        got += more
        if got.startswith(FULL):
            return False
    assert got == VERSION, got
    return True


def client(seed, out):
    r = random.Random(seed)
    good = refused = 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            s = connect()
            kind = r.randrange(5)
            if kind == 0:
                s.sendall(b"PUT /actions HTTP/1.1\r\nContent-Length: 500\r\n\r\n"
                          b"{\"action_type\":")
            elif kind == 1:
                s.sendall(b"PATCH /vm HTTP/1.1\r\nContent-Length: 99\r\n\r\n{")
                s.shutdown(socket.SHUT_WR)
                s.recv(100)
            elif kind == 2:
                for _ in range(50):
                    s.send(b"GET /vm/config HTTP/1.1\r\n\r\n")
            else:
                for _ in range(r.randrange(1, 20)):
                    if not ask(s):
                        refused += 1
                        break
                    good += 1
            s.close()
        except (BrokenPipeError, ConnectionResetError, BlockingIOError):
            refused += 1
        except socket.timeout:
            os.write(out, b"T 0 0\n")
            os._exit(1)
    os.write(out, b"%s %d %d\n" % (b"K", good, refused))
    os._exit(0)


def main():
    read, write = os.pipe()
    pids = []
    for i in range(CLIENTS):
        pid = os.fork()
        if pid == 0:
            client(i, write)
        pids.append(pid)
    os.close(write)
    r = random.Random(1)
    killed = 0
    end = time.monotonic() + SECONDS * 0.8
    while time.monotonic() < end:
        time.sleep(SECONDS / 100)
        if killed < CLIENTS // 2:
            victim = pids.pop(r.randrange(len(pids)))
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
            killed += 1
    text = b""
    while True:
        more = os.read(read, 65536)
        if not more:
            break
        text += more
    status = max(os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in pids)
    rows = [line.split() for line in text.decode().splitlines()]
    good = sum(int(row[1]) for row in rows)
    refused = sum(int(row[2]) for row in rows)
    print(f"{CLIENTS} clients, {killed} killed, {good} answers, "
          f"{refused} turned away")
    sys.exit(1 if status != 0 or good == 0 else 0)


main()
