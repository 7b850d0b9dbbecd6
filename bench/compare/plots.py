# SPDX-License-Identifier: Apache-2.0
"""Pictures of a run, drawn by gnuplot as SVG."""

import measure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00",
           "#000000", "#999999")

HEAD = """set terminal svg noenhanced size 800,480 font "sans,12" background "white"
set output "{output}"
set title "{title}"
set grid
set key outside below
"""


def quote(text):
    return text.replace("\\", "\\\\").replace('"', "'")


def draw(path, title, settings, curves, style):
    """`curves` is a list of (name, rows of columns)."""
    script = [HEAD.format(output=path, title=quote(title)), settings]
    for i, (_, rows) in enumerate(curves):
        script.append(f"$data{i} << END")
        script += [" ".join(str(c) for c in row) for row in rows]
        script.append("END")
    script.append("plot " + ", \\\n  ".join(
        style.format(data=f"$data{i}", name=quote(name),
                     colour=COLOURS[i % len(COLOURS)])
        for i, (name, _) in enumerate(curves)))
    source = path.with_suffix(".gnuplot")
    source.write_text("\n".join(script) + "\n", encoding="utf-8")
    measure.run(["gnuplot", str(source)], 60)
    source.unlink()


def cdf(e, path, metric, x=None):
    curves = []
    unit = ""
    for c in e.contenders():
        m = e.find(c, x, metric)
        if m is None or m.n < 2:
            continue
        unit = m.unit
        ordered = sorted(m.samples)
        curves.append((f"{c} (n={m.n})", [
            (v, (i + 1) / len(ordered)) for i, v in enumerate(ordered)]))
    if not curves:
        return False
    draw(path, e.title, f'set logscale x\nset xlabel "{metric}, {unit}"\n'
         'set ylabel "share of runs"\nset yrange [0:1]', curves,
         '{data} with steps lw 2 lc rgb "{colour}" title "{name}"')
    return True


def against_x(e, path, metric):
    """Medians, with a bar up to p99."""
    curves = []
    unit = ""
    for c in e.contenders():
        rows = []
        for x in e.xs(c):
            m = e.find(c, x, metric)
            if m is not None and m.quantile(.5) > 0:
                unit = m.unit
                # No logarithm of 0.
                rows.append((x or 0.5, m.quantile(.5), m.quantile(.5),
                             m.quantile(.99)))
        if rows:
            curves.append((c, rows))
    if not curves:
        return False
    draw(path, e.title, f'set logscale xy\nset xlabel "{e.x_label}"\n'
         f'set ylabel "{metric}, {unit}: p50, bars to p99"', curves,
         '{data} with yerrorlines lw 2 pt 7 ps 0.5 lc rgb "{colour}" '
         'title "{name}"')
    return True


def bars(e, path, metric):
    """A group for each target, a bar for each mode."""
    parts = [c.split(": ", 1) for c in e.contenders()]
    targets = list(dict.fromkeys(t for t, _ in parts))
    modes = list(dict.fromkeys(m for _, m in parts))
    curves = []
    for mode in modes:
        rows = []
        for target in targets:
            m = e.find(f"{target}: {mode}", None, metric)
            rows.append((f'"{target}"', m.quantile(.5) if m else "NaN"))
        curves.append((mode, rows))
    if not curves:
        return False
    draw(path, e.title, "set style data histogram\nset style fill solid 0.8\n"
         'set logscale y\nset ylabel "runs a second"', curves,
         '{data} using 2:xtic(1) lc rgb "{colour}" title "{name}"')
    return True


def draw_all(experiments, folder):
    """The pictures of each experiment by its name, and what went wrong."""
    pictures = {}
    problems = []
    plans = {
        "start": [("cdf", lambda e, p: cdf(e, p, "first_byte"))],
        "restore": [("cdf", lambda e, p: cdf(e, p, "first_byte", 128)),
                    ("ram", lambda e, p: against_x(e, p, "first_byte"))],
        "stages": [("at-once", lambda e, p: against_x(e, p, "first_byte"))],
        "crowd": [("at-once", lambda e, p: against_x(e, p, "first_byte")),
                  ("pss", lambda e, p: against_x(e, p, "pss"))],
        "dirty": [("pages", lambda e, p: against_x(e, p, "cost"))],
        "log": [("pages", lambda e, p: against_x(e, p, "harvest"))],
        "clones": [("time", lambda e, p: against_x(e, p, "each")),
                   ("memory", lambda e, p: against_x(e, p, "pss"))],
        "fuzz": [("bars", lambda e, p: bars(e, p, "per_second"))],
    }
    for e in experiments:
        for name, function in plans.get(e.name, ()):
            path = folder / f"{e.name}-{name}.svg"
            try:
                if function(e, path):
                    pictures.setdefault(e.name, []).append(path.name)
            except measure.Failure as problem:
                problems.append(f"{path.name}: {problem}")
    return pictures, problems
