# SPDX-License-Identifier: Apache-2.0
"""What a soak has found, as JSON and as Markdown."""

import json
import math


def quantile(values, q):
    ordered = sorted(values)
    return ordered[max(math.ceil(q * len(ordered)) - 1, 0)]


def summarise(samples, failures):
    """By operation: how often, how long, and whether it became slower."""
    out = {}
    for name in sorted(samples):
        all_ms = [took * 1e3 for _, took in samples[name]]
        quarter = len(all_ms) // 4
        out[name] = {
            "count": len(all_ms),
            "failures": sum(f["operation"] == name for f in failures),
            "p50_ms": round(quantile(all_ms, .5), 2),
            "p99_ms": round(quantile(all_ms, .99), 2),
            "most_ms": round(max(all_ms), 2)}
        if quarter >= 5:
            first = quantile(all_ms[:quarter], .5)
            last = quantile(all_ms[-quarter:], .5)
            out[name] |= {"first_quarter_p50_ms": round(first, 2),
                          "last_quarter_p50_ms": round(last, 2),
                          "drift": round(last / first, 2) if first else None}
    return out


def markdown(r):
    total = sum(o["count"] for o in r["operations"].values())
    out = ["# Soak", "",
           f"* {r['date']}, commit {r['commit']}, seed {r['seed']}",
           f"* {r['seconds']:.0f} s, {r['most_alive']} machines at a time at the "
           "most, beside a server's",
           f"* operations {total}, **failures {len(r['failures'])}, "
           f"leaks {len(r['leaks'])}**",
           f"* {r['linux']}", "",
           "| operation | count | failures | p50, ms | p99 | most | p50 of the "
           "first and last quarter | drift |", "|---" * 8 + "|"]
    for name, o in r["operations"].items():
        quarters = "-"
        if "drift" in o:
            quarters = f"{o['first_quarter_p50_ms']}, {o['last_quarter_p50_ms']}"
        out.append(f"| {name} | {o['count']} | {o['failures']} | {o['p50_ms']} | "
                   f"{o['p99_ms']} | {o['most_ms']} | {quarters} | "
                   f"{o.get('drift') or '-'} |")
    out += ["", "| memory of the host, MiB (other programs move it too) | before "
            "| after |", "|---|---|---|"]
    for name, value in r["memory_before"].items():
        out.append(f"| {name} | {value} | {r['memory_after'][name]} |")
    out += ["", "| lives long | descriptors, first and last | resident KiB |",
            "|---|---|---|"]
    for name, f in r["footprints"].items():
        if f:
            out.append(f"| {name} | {f[0]['fds']}, {f[-1]['fds']} | "
                       f"{f[0]['rss_kib']}, {f[-1]['rss_kib']} |")
    for title, lines in (("Failures", [
            f"{f['at_s']} s, {f['operation']}: {f['what']}"
            for f in r["failures"]]), ("Leaks", r["leaks"])):
        if lines:
            out += ["", f"## {title}", "", *(f"* {line}" for line in lines[:200])]
    return "\n".join(out) + "\n"


def write(folder, result):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "soak.json").write_text(json.dumps(result, indent=1) + "\n",
                                      encoding="utf-8")
    (folder / "soak.md").write_text(markdown(result), encoding="utf-8")
