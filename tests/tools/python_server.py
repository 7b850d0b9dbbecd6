#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Python that is there before it is asked: what comes over a connection to
vsock port 5000 (or to the TCP port that is given) is run, up to the end of
what is sent, and what that prints goes back. What is imported here nobody has
to import again. It runs in this very process: each request is meant to have a
machine of its own."""

import io
import socket
import sys
import traceback

PORT = 5000


def run(text):
    """Runs a program; what it has printed."""
    out = io.StringIO()
    sys.stdout = sys.stderr = out
    try:
        exec(compile(text, "<request>", "exec"), {"__name__": "__main__"})
    except SystemExit:
        pass
    except BaseException:
        traceback.print_exc()
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    return out.getvalue().encode("utf-8", "surrogateescape")


def serve(connection):
    """One request."""
    parts = []
    while True:
        part = connection.recv(65536)
        if not part:
            break
        parts.append(part)
    connection.sendall(run(b"".join(parts)))


def main():
    """Takes connections one by one."""
    if len(sys.argv) > 1:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("0.0.0.0", int(sys.argv[1])))
    else:
        listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        listener.bind((socket.VMADDR_CID_ANY, PORT))
    # The first run of anything is the slowest: what it needs is here by then.
    run(b"print(sum(range(10)))")
    listener.listen(64)
    while True:
        connection, _ = listener.accept()
        with connection:
            try:
                serve(connection)
            except OSError:
                pass


main()
