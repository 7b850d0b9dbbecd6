# SPDX-License-Identifier: Apache-2.0
"""Clients and monitors that do not keep to docs/api.md's /spore/capture.

    capture.py client SOCKET WHAT    prints the replies' statuses and texts
    capture.py monitor SOCKET WHAT   serves one `spore save`, then ends
    capture.py drive SOCKET ID FILE  puts the file behind a drive, as a descriptor
"""

import array
import json
import os
import socket
import sys
import time


def connect(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.settimeout(60)
    s.connect(path)
    return s


def send(s, verb, path, body=None, fds=()):
    text = "" if body is None else json.dumps(body)
    request = f"{verb} {path} HTTP/1.1\r\nContent-Length: {len(text)}\r\n\r\n"
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
    s.sendmsg([(request + text).encode()], rights if fds else [])


def receive(s):
    data = b""
    while b"\r\n\r\n" not in data:
        more = s.recv(4096)
        if not more:
            return 0, ""
        data += more
    head, body = data.split(b"\r\n\r\n", 1)
    status = int(head.split()[1])
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            while len(body) < int(line.split(b":")[1]):
                body += s.recv(4096)
    return status, body.decode()


def ask(s, *args, **more):
    send(s, *args, **more)
    return receive(s)


def files(plan):
    fds = [os.memfd_create("capture")]
    for pages in [plan["pages"]] + [d["pages"] for d in plan["disks"]]:
        fds.append(os.memfd_create("image"))
        os.ftruncate(fds[-1], pages * 4096)
    return fds


def client(path, what):
    s = connect(path)
    status, text = ask(s, "GET", "/spore/capture")
    if status != 200:
        print(status, text)
        return
    plan = json.loads(text)
    fds = files(plan)
    commit = ("PUT", "/spore/capture/commit")
    if what == "none":
        fds = []
    elif what == "few":
        fds = fds[:1]
    elif what == "more":
        fds.append(os.memfd_create("more"))
    elif what == "many":
        fds = fds * 20
    elif what == "size":
        os.ftruncate(fds[1], 4096)
    elif what == "pipe":
        fds[1] = os.pipe()[1]
    elif what == "readonly":
        fds[1] = os.open(f"/proc/self/fd/{fds[1]}", os.O_RDONLY)
    elif what == "base":
        print(*ask(s, "PUT", "/spore/capture", {"base": "7" * 32}, fds))
        return
    elif what == "early":
        print(*ask(s, *commit, {"id": "1" * 32}))
        return
    elif what == "die":
        send(s, "PUT", "/spore/capture", {"track": True}, fds)
        return
    elif what == "unasked":
        for _ in range(100):
            print(*ask(s, "GET", "/version", fds=fds))
        return
    body = {"track": True}
    if what == "diff":
        body["base"] = plan["base"]
    print(*ask(s, "PUT", "/spore/capture", body, fds))
    if what == "hold":
        other = connect(path)
        print(*ask(other, *commit, {"id": "1" * 32}))
        print(*ask(other, "GET", "/spore/capture"))
        print(*ask(other, "PUT", "/spore/snapshot", {}))
        print(*ask(s, *commit, {"id": "x"}))
        print(*ask(s, *commit, {"id": "0" * 32}))


def drive(path, drive_id, file):
    body = {"drive_id": drive_id, "path_on_host": os.path.abspath(file)}
    fds = [os.open(file, os.O_RDWR)]
    print(*ask(connect(path), "PATCH", f"/drives/{drive_id}", body, fds))


def monitor(path, what):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(1)
    print("ready", flush=True)
    s, _ = listener.accept()
    s.settimeout(60)
    plan = {"base": None, "pages": 256, "disks": []}
    if what == "plan":
        plan["pages"] = 1 << 40
    elif what == "disks":
        plan["disks"] = [{"drive": 3, "pages": 1}, {"drive": 3, "pages": 1}]
    s.recv(4096)
    answer(s, plan)
    _, fds, _, _ = socket.recv_fds(s, 4096, 30)
    os.pwrite(fds[1] if len(fds) > 1 else os.memfd_create("x"), b"x" * 4096, 0)
    if what in ("die", "plan", "disks"):
        return
    if what == "mute":
        print("mute", flush=True)
        s.recv(1)
        return
    if what == "garbage":
        os.write(fds[0], os.urandom(100000))
    elif what == "huge":
        os.ftruncate(fds[0], 1 << 45)
    elif what == "grown":
        os.ftruncate(fds[1], 1 << 30)
    if what != "keep":
        for fd in fds:
            os.close(fd)
    answer(s, {"stopped_us": 1, "took_us": 2})
    s.recv(1)
    time.sleep(0)


def answer(s, json_body):
    text = json.dumps(json_body)
    s.sendall(
        f"HTTP/1.1 200 \r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()
    )


if __name__ == "__main__":
    {"client": client, "drive": drive, "monitor": monitor}[sys.argv[1]](*sys.argv[2:])
