# SPDX-License-Identifier: Apache-2.0
"""Plays systemd: starts `spore serve` with a socket that listens already, reads
what it notifies, has a request served, ends it, and says what was seen.

serve_systemd.py SPORE [OPTION...]: the options end with the template."""

import os
import signal
import socket
import sys


def request(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(path)
        s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        text = b""
        while piece := s.recv(4096):
            text += piece
    return text


def main():
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.settimeout(60)
    notified.bind("notify")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("activated")
    listener.listen(16)
    pid = os.fork()
    if pid == 0:
        os.dup2(listener.fileno(), 3)
        os.environ.update(
            LISTEN_PID=str(os.getpid()), LISTEN_FDS="1",
            NOTIFY_SOCKET=os.path.abspath("notify"))
        os.execv(sys.argv[1], [sys.argv[1], "serve", *sys.argv[2:]])
    print(notified.recv(64).decode())
    print(request("activated").split(b"\r\n")[0].decode())
    os.kill(pid, signal.SIGTERM)
    print(notified.recv(64).decode())
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    # The socket was not the server's to close: others may still connect.
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("activated")
        print("listening")


main()
