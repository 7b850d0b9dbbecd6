# SPDX-License-Identifier: Apache-2.0
# Many clients of one control socket at once while a guest runs: some ask and
# compare the answer, some send a part of a request and go, some stop reading,
# and some are killed (their process is), in the middle of a request or
# whenever it happens. Who was killed is replaced: there are always as many.
# Meanwhile the guest echoes bytes on its serial port. Prints JSON; latencies
# are those of clients that lived on, the echo's as often as it is looked at,
# which is between two kills. Fails if an answer was wrong or did not come, if
# the guest stands still, or if a descriptor or a thread was left behind.
# Usage: api_storm.py FIRECRACKER ECHO_ELF CLIENTS SECONDS
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time

PROGRAM, GUEST, CLIENTS, SECONDS = (
    sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
PATH = "storm.sock"
PATIENCE = 30
KILL_EVERY = 0.05
ECHO_EVERY = 0.1
HEAD = (b"HTTP/1.1 %d \r\nServer: Firecracker API\r\n"
        b"Connection: keep-alive\r\n")
FULL = b"HTTP/1.1 503\r\n"

# What a client tells, each in a write that is whole or not there.
RECORD = struct.Struct("=IBd")
ANSWER, WRONG, REFUSED, LATE, BROKEN = range(5)


def reply(status, body):
    if not body:
        return HEAD % status + b"\r\n"
    return (HEAD % status + b"Content-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body))


def request(verb, path, body=b""):
    return b"%s %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (
        verb, path, len(body), body)


# What is asked, and the one right answer.
EXCHANGES = [
    (b"GET /version HTTP/1.1\r\n\r\n",
     reply(200, b'{"firecracker_version":"1.17.0"}')),
    (b"GET / HTTP/1.1\r\n\r\n",
     reply(200, b'{"id":"storm","state":"Running","vmm_version":"1.17.0",'
                b'"app_name":"Firecracker"}')),
    (b"GET /machine-config HTTP/1.1\r\n\r\n",
     reply(200, b'{"vcpu_count":1,"mem_size_mib":64,"smt":false,'
                b'"track_dirty_pages":false,"huge_pages":"None"}')),
    (request(b"PATCH", b"/vm", b'{"state":"Resumed"}'), reply(204, b"")),
    (request(b"PUT", b"/entropy", b"{}"),
     reply(400, b'{"fault_message":"The requested operation is not supported '
                b'after starting the microVM."}')),
]


class Refused(Exception):
    pass


def connect():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(PATIENCE)
    s.connect(PATH)
    return s


def ask(s, asked, want):
    got = b""
    try:
        s.sendall(asked)
    except BrokenPipeError:
        pass  # What it was told before may be there still.
    while len(got) < len(want):
        more = s.recv(4096)
        if got == b"" and more.startswith(FULL):
            raise Refused
        if more == b"":
            break
        got += more
    if got == b"":
        raise ConnectionResetError
    return got == want


class Client:
    def __init__(self, seed, out):
        self.r = random.Random(seed)
        self.out = out

    def tell(self, kind, seconds=0.0):
        os.write(self.out, RECORD.pack(os.getpid(), kind, seconds))

    def leave_half(self, s, text):
        """Part of a request; then this process ends, or the connection."""
        s.sendall(text[:self.r.randrange(1, len(text))])
        how = self.r.randrange(12)
        if how == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        elif how < 5:
            s.shutdown(socket.SHUT_WR)
            s.recv(100)
        elif how < 8:
            time.sleep(self.r.uniform(0, 0.05))

    def turn(self, s):
        kind = self.r.randrange(6)
        if kind == 0:
            self.leave_half(s, request(
                b"PUT", b"/actions", b'{"action_type":"FlushMetrics"}' * 9))
        elif kind == 1:
            for _ in range(50):
                s.send(b"GET /vm/config HTTP/1.1\r\n\r\n")
        else:
            for _ in range(self.r.randrange(1, 20)):
                asked, want = self.r.choice(EXCHANGES)
                begin = time.monotonic()
                is_right = ask(s, asked, want)
                self.tell(ANSWER if is_right else WRONG,
                          time.monotonic() - begin)

    def run(self, end):
        while time.monotonic() < end:
            try:
                with connect() as s:
                    self.turn(s)
            except Refused:
                self.tell(REFUSED)
                time.sleep(self.r.uniform(0, 0.02))
            except (BrokenPipeError, ConnectionResetError, BlockingIOError):
                self.tell(BROKEN)
            except socket.timeout:
                self.tell(LATE)


class Storm:
    def __init__(self):
        self.r = random.Random(1)
        self.read, self.write = os.pipe()
        self.pids = set()
        self.killed = set()
        self.victims = set()
        self.records = b""
        self.end = time.monotonic() + SECONDS
        self.started = 0

    def start_one(self):
        self.started += 1
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                Client(self.started, self.write).run(self.end)
                status = 0
            finally:
                os._exit(status)
        self.pids.add(pid)

    def reap(self, flags):
        while self.pids:
            pid, status = os.waitpid(-1, flags)
            if pid == 0:
                return
            self.pids.discard(pid)
            if os.WIFSIGNALED(status):
                assert os.WTERMSIG(status) == signal.SIGKILL, status
                self.killed.add(pid)
            else:
                assert os.waitstatus_to_exitcode(status) == 0, "a client broke"

    def collect(self, seconds):
        while select.select([self.read], [], [], seconds)[0]:
            more = os.read(self.read, 1 << 16)
            if more == b"":
                return
            self.records += more
            seconds = 0

    def keep_on(self):
        """A moment of it, with a kill."""
        self.collect(KILL_EVERY)
        self.reap(os.WNOHANG)
        if time.monotonic() >= self.end:
            return False
        victim = self.r.choice(sorted(self.pids))
        os.kill(victim, signal.SIGKILL)
        self.victims.add(victim)
        while len(self.pids) < CLIENTS:
            self.start_one()
        return True

    def finish(self):
        os.close(self.write)
        while self.pids:
            self.collect(KILL_EVERY)
            self.reap(os.WNOHANG)
        self.collect(PATIENCE)


class Machine:
    """The process with the guest, which echoes what it is sent."""

    def __init__(self):
        self.process = subprocess.Popen(
            [PROGRAM, "--api-sock", PATH, "--id", "storm"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.waits_since = None
        self.sent_at = 0.0
        self.echoes = []

    def begin(self):
        end = time.monotonic() + PATIENCE
        while not os.path.exists(PATH):
            assert time.monotonic() < end and self.process.poll() is None
            time.sleep(0.01)
        with connect() as s:
            for path, body in [
                    (b"/machine-config", b'{"vcpu_count":1,"mem_size_mib":64}'),
                    (b"/boot-source", json.dumps(
                        {"kernel_image_path": GUEST}).encode()),
                    (b"/actions", b'{"action_type":"InstanceStart"}')]:
                assert ask(s, request(b"PUT", path, body), reply(204, b""))
        text = b""
        while b"ready" not in text:
            assert self.hears(PATIENCE), "the guest does not begin"
            text += os.read(self.process.stdout.fileno(), 100)
        while self.hears(0.2):
            os.read(self.process.stdout.fileno(), 100)

    def hears(self, seconds):
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def echo(self):
        """Sends the guest a byte now and then, and takes what it answers."""
        now = time.monotonic()
        if self.waits_since is None:
            if now - self.sent_at >= ECHO_EVERY:
                self.process.stdin.write(b"x")
                self.waits_since = self.sent_at = now
        elif self.hears(0):
            assert os.read(self.process.stdout.fileno(), 100) == b"x"
            self.echoes.append(now - self.waits_since)
            self.waits_since = None
        else:
            assert now - self.waits_since < PATIENCE, "the guest stands still"

    def last_echo(self):
        done = len(self.echoes)
        while len(self.echoes) == done:
            self.echo()
            self.hears(0.01)

    def look(self):
        fds = len(os.listdir(f"/proc/{self.process.pid}/fd"))
        with open(f"/proc/{self.process.pid}/status") as f:
            rows = dict(line.split(":", 1) for line in f)
        return {"fds": fds, "threads": int(rows["Threads"]),
                "rss_kib": int(rows["VmRSS"].split()[0]),
                "private_kib": int(rows["RssAnon"].split()[0])}

    def settle(self, fds):
        """What clients held is free again as soon as their ends were seen."""
        end = time.monotonic() + PATIENCE
        while self.look()["fds"] > fds and time.monotonic() < end:
            time.sleep(0.05)
        return self.look()


def summary(samples):
    """In microseconds, by the nearest rank."""
    samples = sorted(samples)
    at = lambda q: round(
        1e6 * samples[min(int(q * len(samples)), len(samples) - 1)])
    return {"unit": "us", "n": len(samples), "p50": at(0.5), "p99": at(0.99),
            "max": at(1)} if samples else {"unit": "us", "n": 0}


def main():
    machine = Machine()
    try:
        machine.begin()
        before = machine.look()
        storm = Storm()
        for _ in range(CLIENTS):
            storm.start_one()
        while storm.keep_on():
            machine.echo()
        storm.finish()
        machine.last_echo()
        after = machine.settle(before["fds"])
    finally:
        machine.process.kill()
    rows = list(RECORD.iter_unpack(storm.records))
    count = [sum(kind == k for _, kind, _ in rows) for k in range(5)]
    lived = [s for pid, kind, s in rows
             if kind == ANSWER and pid not in storm.killed]
    print(json.dumps({
        "bench": "api_storm", "clients": CLIENTS, "seconds": SECONDS,
        "answered": count[ANSWER], "wrong": count[WRONG],
        "late": count[LATE], "turned_away": count[REFUSED],
        "connection_ended": count[BROKEN], "clients_started": storm.started,
        "killed_at_random": len(storm.killed & storm.victims),
        "killed_in_a_request": len(storm.killed - storm.victims),
        "reply": summary(lived), "guest_echo": summary(machine.echoes),
        "before": before, "after": after}))
    is_good = (count[WRONG] == count[LATE] == 0 and count[ANSWER] > 0 and
               storm.killed and after["fds"] == before["fds"] and
               after["threads"] == before["threads"])
    sys.exit(0 if is_good else 1)


main()
