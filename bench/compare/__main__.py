# SPDX-License-Identifier: Apache-2.0
"""spore beside others, in one run: see ../compare.sh."""

import argparse
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

import experiments
import machine
import measure
import peers
import plots
import report


def parse():
    p = argparse.ArgumentParser(prog="compare.sh")
    p.add_argument("build", type=pathlib.Path)
    p.add_argument("output", type=pathlib.Path)
    p.add_argument("--quick", action="store_true")
    p.add_argument("--only", default="", metavar="NAME,...")
    p.add_argument("--targets", type=pathlib.Path, required=True)
    return p.parse_args()


def run_all(args, folder, done):
    """Adds to `done`, so that what ends early has something to show."""
    spore = peers.Spore(args.build, folder)
    qemu = None
    if peers.Qemu.is_there():
        qemu = peers.Qemu(spore, folder / "qemu")
    place = experiments.Place(spore, qemu, folder, args.targets, args.quick)
    meta = machine.describe(spore)
    meta["mode"] = "quick" if args.quick else "full"
    only = [n for n in args.only.split(",") if n]
    begin = time.monotonic()
    for function, quick_s, full_s in experiments.ALL:
        name = function.__name__.removeprefix("run_")
        if only and name not in only:
            continue
        place.seconds = quick_s if args.quick else full_s
        print(f"{time.monotonic() - begin:6.0f} s  {name}: about "
              f"{place.seconds:.0f} s", file=sys.stderr, flush=True)
        try:
            e = function(place)
        except measure.Failure as problem:
            e = measure.Experiment(name, name, "")
            e.left_out.append(f"all: {problem}")
        for text in e.left_out:
            print(f"          left out: {text}", file=sys.stderr, flush=True)
        done.append(e)
        meta["seconds"] = round(time.monotonic() - begin)
        meta["load_after"] = os.getloadavg()[0]
        write(args.output, meta, done)


def write(output, meta, done):
    output.mkdir(parents=True, exist_ok=True)
    (output / "compare.json").write_text(json.dumps(
        {"meta": meta, "experiments": [e.to_json() for e in done]}, indent=1) +
        "\n", encoding="utf-8")
    pictures, problems = {}, []
    if shutil.which("gnuplot"):
        pictures, problems = plots.draw_all(done, output)
    else:
        problems = ["no pictures: gnuplot is missing: apt-get install "
                    "gnuplot-nox"]
    for text in problems:
        print(f"compare.sh: {text}", file=sys.stderr)
    (output / "compare.md").write_text(
        report.markdown(meta, done, pictures) + "\n", encoding="utf-8")


def main():
    args = parse()
    done = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("compare.sh: terminated"))
    # A disk, so that page caches can be cold; open, so that jails can enter.
    folder = pathlib.Path(tempfile.mkdtemp(
        prefix="spore-compare.", dir=os.environ.get("TMPDIR", "/var/tmp")))
    folder.chmod(0o755)
    try:
        run_all(args, folder, done)
    except measure.Failure as problem:
        sys.exit(f"compare.sh: {problem}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(args.output / "compare.md")
    if not any(e.series for e in done):
        sys.exit("compare.sh: nothing could be measured")


if __name__ == "__main__":
    main()
