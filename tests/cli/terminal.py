#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command on a terminal of its own and says whether it gave it back.

usage: terminal.py [--size ROWSxCOLS] [STEP...] -- COMMAND...

Steps, in order: expect=TEXT waits for output, send=TEXT types (Python
escapes), signal=NAME sends the command a signal, size=ROWSxCOLS resizes the
terminal, mode prints "terminal: raw" or "terminal: cooked". In the end comes
the command's output, then "terminal: restored" or "terminal: changed". Ends
with the command's status.
"""
import codecs
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

LIMIT_S = 300


def set_size(fd, text):
    rows, cols = (int(n) for n in text.split("x"))
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


class Session:
    def __init__(self, command, size):
        self.master, self.slave = pty.openpty()
        set_size(self.slave, size)
        self.before = termios.tcgetattr(self.slave)
        self.output = b""
        self.seen = 0
        self.end = time.monotonic() + LIMIT_S
        self.status = None
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.master)
            self.login()
            os.execvp(command[0], command)

    def login(self):
        os.setsid()
        fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
        for fd in (0, 1, 2):
            os.dup2(self.slave, fd)

    def read(self):
        """Takes what there is; False when time is over."""
        if time.monotonic() > self.end:
            return False
        if select.select([self.master], [], [], 0.05)[0]:
            self.output += os.read(self.master, 65536)
        return True

    def expect(self, text):
        while True:
            at = self.output.find(text, self.seen)
            if at >= 0:
                self.seen = at + len(text)
                return
            if self.has_ended() or not self.read():
                self.die("no %r in %r" % (text, self.output[self.seen:]))

    def has_ended(self):
        """Whether the command has, and all its output is here."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid == 0:
                return False
            self.status = os.waitstatus_to_exitcode(status)
        return not select.select([self.master], [], [], 0)[0]

    def die(self, why):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
        sys.exit("terminal.py: " + why)

    def step(self, name, value):
        if name == "expect":
            self.expect(codecs.decode(value, "unicode_escape").encode())
        elif name == "send":
            os.write(self.master,
                     codecs.decode(value, "unicode_escape").encode())
        elif name == "signal":
            os.kill(self.pid, getattr(signal, "SIG" + value))
        elif name == "size":
            set_size(self.slave, value)
        elif name == "mode":
            local = termios.tcgetattr(self.slave)[3]
            is_raw = not local & (termios.ICANON | termios.ECHO)
            print("terminal:", "raw" if is_raw else "cooked")
        else:
            self.die("unknown step " + name)

    def finish(self):
        while not self.has_ended():
            if not self.read():
                self.die("it does not end")
        after = termios.tcgetattr(self.slave)
        sys.stdout.flush()
        sys.stdout.buffer.write(self.output)
        print("terminal:",
              "restored" if after == self.before else "changed")
        return self.status


def main():
    args = sys.argv[1:]
    at = args.index("--")
    size = "24x80"
    steps = args[:at]
    if steps[:1] == ["--size"]:
        size = steps[1]
        steps = steps[2:]
    session = Session(args[at + 1:], size)
    for step in steps:
        name, _, value = step.partition("=")
        session.step(name, value)
    sys.exit(session.finish())


main()
