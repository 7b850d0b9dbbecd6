# SPDX-License-Identifier: Apache-2.0
"""Figures of contenders, taken in turn: A B A B, so that a host that changes
its mind meanwhile does so for all of them."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import time


class Failure(Exception):
    """A measurement that could not be made, and why."""


def run(argv, timeout, env=None):
    """The standard output of a program that ends with 0. Whatever happens,
    nothing that it has started is left."""
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, errors="replace", env=env,
            start_new_session=True)
    except OSError as e:
        raise Failure(f"{argv[0]}: {e.strerror}") from e
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as e:
        raise Failure(f"{argv[0]}: nothing for {timeout:.0f} s") from e
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode != 0:
        lines = err.strip().splitlines() or ["no message"]
        raise Failure(f"{os.path.basename(argv[0])}: status "
                      f"{process.returncode}: {lines[-1]}")
    return out


def run_bench(argv, timeout):
    """What a program of bench/ prints, samples included."""
    text = run(argv, timeout, dict(os.environ, BENCH_SAMPLES="1"))
    try:
        return json.loads(text)
    except json.JSONDecodeError as e:
        raise Failure(f"{argv[0]}: no JSON: {e}") from e


@dataclasses.dataclass
class Metric:
    """Samples of one quantity; quantiles are by the nearest rank."""

    unit: str
    samples: list = dataclasses.field(default_factory=list)

    @property
    def n(self):
        return len(self.samples)

    def quantile(self, q):
        ordered = sorted(self.samples)
        rank = max(math.ceil(q * len(ordered)) - 1, 0)
        return ordered[rank]

    def to_json(self):
        out = {"unit": self.unit, "n": self.n}
        for name, q in (("min", 0), ("p50", .5), ("p90", .9), ("p99", .99),
                        ("max", 1)):
            out[name] = self.quantile(q)
        out["samples"] = sorted(self.samples)
        return out


@dataclasses.dataclass
class Series:
    """What one contender has given, at one place of the plot's x if any."""

    contender: str
    x: float = None
    metrics: dict = dataclasses.field(default_factory=dict)

    def add(self, name, unit, samples):
        metric = self.metrics.setdefault(name, Metric(unit))
        metric.samples.extend(samples)

    def add_stats(self, stats, prefix=""):
        """All that is a summary of bench/stats.h in a JSON object."""
        for name, value in stats.items():
            if isinstance(value, dict) and value.get("samples"):
                self.add(prefix + name, value["unit"], value["samples"])

    def to_json(self):
        return {"contender": self.contender, "x": self.x,
                "metrics": {k: m.to_json() for k, m in self.metrics.items()}}


@dataclasses.dataclass
class Experiment:
    """One question to several contenders."""

    name: str
    title: str
    metric: str  # what is compared
    x_label: str = None
    series: list = dataclasses.field(default_factory=list)
    left_out: list = dataclasses.field(default_factory=list)
    seconds: float = 0

    def get(self, contender, x=None):
        for s in self.series:
            if (s.contender, s.x) == (contender, x):
                return s
        self.series.append(Series(contender, x))
        return self.series[-1]

    def find(self, contender, x=None, metric=None):
        """The figures of one, or None if there are none."""
        for s in self.series:
            if (s.contender, s.x) == (contender, x):
                return s.metrics.get(metric or self.metric)
        return None

    def contenders(self):
        return list(dict.fromkeys(s.contender for s in self.series))

    def xs(self, contender=None):
        return sorted({s.x for s in self.series if s.x is not None and
                       contender in (None, s.contender)})

    def to_json(self):
        return {"name": self.name, "title": self.title, "metric": self.metric,
                "x": self.x_label, "seconds": round(self.seconds, 1),
                "left_out": self.left_out,
                "series": [s.to_json() for s in self.series if s.metrics]}


def take_turns(experiment, turns, seconds, rounds=10**6):
    """Calls each of `turns`, (contender, x, function of a series), again and
    again for so long, once at the least. Who fails is not asked again."""
    begin = time.monotonic()
    turns = list(turns)
    for done in range(rounds):
        for turn in list(turns):
            if done > 0 and time.monotonic() - begin >= seconds:
                break
            contender, x, function = turn
            series = Series(contender, x)
            try:
                function(series)
            except Failure as e:
                where = "" if x is None else f" at {x:g}"
                experiment.left_out.append(f"{contender}{where}: {e}")
                turns.remove(turn)
                continue
            kept = experiment.get(contender, x) if series.metrics else None
            for name, metric in series.metrics.items():
                kept.add(name, metric.unit, metric.samples)
        if not turns or time.monotonic() - begin >= seconds:
            break
    experiment.seconds += time.monotonic() - begin
