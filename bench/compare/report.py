# SPDX-License-Identifier: Apache-2.0
"""A run as Markdown: the ratios, then every figure."""

from peers import QEMU, SPORE, SPORE_OPEN


def number(value):
    """Three digits that count."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"


def row(cells):
    return "| " + " | ".join(cells) + " |"


def table(head, rows):
    return [row(head), row(["---"] * len(head)), *(row(r) for r in rows), ""]


def figure(metric):
    if metric is None:
        return "-"
    if metric.n == 1:
        return f"{number(metric.samples[0])} {metric.unit}"
    return (f"{number(metric.quantile(.5))} ({number(metric.quantile(.99))}) "
            f"{metric.unit}")


# What is set against what: experiment, metric, place, of spore and of the peer.
PAIRS = (
    ("boot of a bare guest to its first byte", "start", "first_byte", None,
     QEMU, SPORE),
    ("the same without spore's jail", "start", "first_byte", None, QEMU,
     SPORE_OPEN),
    ("start to reaped", "start", "reaped", None, QEMU, SPORE),
    ("the floor, posix_spawn of echo, to a bare guest", "start", "first_byte",
     None, SPORE_OPEN, "posix_spawn"),
    ("memory to itself", "memory", "private", None, QEMU, SPORE),
    ("restore to the first byte", "restore", "first_byte", 128, QEMU, SPORE),
    ("the same without spore's jail", "restore", "first_byte", 128, QEMU,
     SPORE_OPEN),
    ("restore of a larger guest", "restore", "first_byte", "last", QEMU, SPORE),
    ("restore, page cache cold", "crowd", "first_byte", 1, QEMU + ", cold",
     SPORE + ", cold"),
    ("16 restores at once", "crowd", "first_byte", 16, QEMU + ", warm",
     SPORE + ", warm"),
    ("save to a file", "save", "save", None, QEMU, SPORE),
    ("standing still for it", "save", "stopped", None, QEMU, SPORE),
    ("back after 10 pages written: fork to reset", "dirty", "cost", 10,
     "fork of 64 MiB", "reset in place"),
    ("after 1000 pages", "dirty", "cost", 1000, "fork of 64 MiB",
     "reset in place"),
)


def ratios(experiments):
    by_name = {e.name: e for e in experiments}
    rows = []
    for text, name, metric, x, peer, ours in PAIRS:
        e = by_name.get(name)
        if e is None:
            continue
        if x == "last":
            x = max(e.xs(peer), default=None)
            text = f"{text} ({x:g} MiB)" if x else text
        one, other = e.find(ours, x, metric), e.find(peer, x, metric)
        if one is None or other is None:
            continue
        base = one.quantile(.5)
        share = number(other.quantile(.5) / base) if base else "-"
        rows.append([text, f"**{share}**", f"{ours}: {figure(one)}",
                     f"{peer}: {figure(other)}", f"{one.n}, {other.n}"])
    fuzz = by_name.get("fuzz")
    for c in fuzz.contenders() if fuzz else ():
        target, mode = c.split(": ", 1)
        floor = fuzz.find(f"{target}: AFL++ fork")
        if mode != "-X on spore" or floor is None:
            continue
        ours = fuzz.find(c)
        rows.append([f"fuzzing {target}, runs a second",
                     f"**{number(ours.quantile(.5) / floor.quantile(.5))}**",
                     f"{mode}: {figure(ours)}", f"AFL++ fork: {figure(floor)}",
                     f"{ours.n}, {floor.n}"])
    return rows


def all_figures(e):
    rows = []
    for s in e.series:
        for name, metric in s.metrics.items():
            q = [number(metric.quantile(q)) for q in (0, .5, .9, .99, 1)]
            rows.append([s.contender, "" if s.x is None else f"{s.x:g}", name,
                         metric.unit, *q, str(metric.n)])
    return table(["contender", e.x_label or "", "what", "unit", "least", "p50",
                  "p90", "p99", "most", "n"], rows)


def stages(e):
    """Where the time of restores goes, a row for each place."""
    names = ("process", "open", "prepare", "memory_vm", "state", "run")
    rows = []
    for x in e.xs():
        for c in e.contenders():
            found = [e.find(c, x, f"stage_{n}") for n in names]
            if None in found or e.find(c, x) is None:
                continue
            rows.append([f"{x:g}, {c}", figure(e.find(c, x)),
                         *(number(m.quantile(.5)) for m in found),
                         number(e.find(c, x, "pss").quantile(.5)),
                         number(e.find(c, x, "kernel").quantile(.5)),
                         "/".join(number(e.find(c, x, f).quantile(.5)) for f in
                                  ("minor_faults", "major_faults"))])
    return table(["at once", "first byte", "process, us", "open", "prepare",
                  "memory, VM", "state", "run", "PSS, KiB", "kernel, KiB",
                  "faults minor/major"], rows)


def markdown(meta, experiments, pictures):
    out = ["# spore beside others", ""]
    for name in ("date", "commit", "processor", "processors", "memory",
                 "kernel", "kvm", "doctor", "mode", "seconds", "load_before",
                 "load_after"):
        out.append(f"* {name.replace('_', ' ')}: {meta[name]}")
    out += [f"* {k}: {v or 'missing'}" for k, v in meta["versions"].items()]
    out += ["", "One run, contenders in turn. p50 (p99); a ratio is that of the "
            "medians, above 1 in spore's favour (for the floor: what a machine "
            "costs beyond a process).", "", "## Ratios", ""]
    out += table(["what", "ratio", "first", "second", "n"], ratios(experiments))
    left_out = [f"* {e.name}: {text}" for e in experiments for text in e.left_out]
    if left_out:
        out += ["## Left out", "", *left_out, ""]
    for e in experiments:
        out += [f"## {e.title}", ""]
        out += [f"![{e.name}]({p})" for p in pictures.get(e.name, ())]
        if e.name in pictures:
            out.append("")
        if e.name == "stages":
            out += stages(e)
        out += all_figures(e)
    return "\n".join(out)
