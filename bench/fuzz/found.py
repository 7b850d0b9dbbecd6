# SPDX-License-Identifier: Apache-2.0
"""Which bugs afl-fuzz has found: what it has saved is run again, by a program
without AFL++ and with AddressSanitizer."""
import os
import re
import shutil
import signal
import subprocess
import tempfile

# A run takes less than a millisecond: what is still there has no end. It is
# asked where it is then.
HANG_S = 5


def replay(target, plain, path):
    """The bug's name, or None: that input is none. What a bug says of itself
    (NAME: bug N), else the innermost function in the target's own source."""
    options = "handle_abort=1:detect_leaks=0:symbolize=1"
    symbolizer = shutil.which("llvm-symbolizer")
    if symbolizer:
        options += f":external_symbolizer_path={symbolizer}"
    with open(path, "rb") as file, tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [plain], stdin=file, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | {"ASAN_OPTIONS": options, "TMPDIR": folder})
        try:
            _, text = process.communicate(timeout=HANG_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            _, text = process.communicate()
    if process.returncode == 0:
        return None
    text = text.decode(errors="replace")
    said = re.search(rf"^{target}: bug (\d+)$", text, re.M)
    at = re.search(rf"^ *#\d+ 0x[0-9a-f]+ in (\S+) \S*/{target}\.c:", text,
                   re.M)
    return said[1] if said else at[1] if at else "unknown"


def report(target, plain, out):
    """First seconds of each bug, and what was saved and is none."""
    first = {}
    false = {"crashes": 0, "hangs": 0}
    for kind in false:
        for path in sorted((out / kind).glob("id:*")):
            if path.suffix == ".log":  # what libnyx was told with it
                continue
            bug = replay(target, plain, path)
            if bug is None:
                false[kind] += 1
                continue
            after = int(re.search(r"time:(\d+)", path.name)[1]) / 1000
            first[bug] = min(first.get(bug, after), after)
    return {"bugs": len(first),
            "found": dict(sorted(first.items(), key=lambda pair: pair[1])),
            "false_crashes": false["crashes"], "false_hangs": false["hangs"]}
