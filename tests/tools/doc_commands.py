#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Runs the commands that the documents show, as their readers would.

    doc_commands.py [--list] SOURCE-ROOT FOLDER-OF-PROGRAMS [DOCUMENT...]

In an indented block of README.md or docs/*.md a line that begins with "$ " is
a command; it goes on behind a backslash at a line's end. Lines below it that
have no prompt are what it prints, all of its standard output. `cat FILE` of a file that is not
there yet makes the file, with what is shown.

What is shown is compared word by word. "..." in it stands for anything, on a
line of its own for any lines. Numbers that no two runs share stand for any
such number: with a decimal point, of three parts (versions), with a unit
behind them, and hex words of eight digits and more.

The commands of a document run in one shell and an empty folder, with
build/release in it and the programs in PATH; all documents share one user's
data folder. A command that does not end with 0 is a failure. What cannot be
run here is in UNRUN, with the reason or with the test that runs it.

With --list nothing is run. Status 77: nothing can be run on this host.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND_LIMIT_S = 600

# In this order: what one leaves, templates above all, the next ones may use.
ORDER = ["README.md", "docs/api.md", "docs/serving.md",
         "docs/serving-server.md", "docs/fuzzing.md"]

# (document, beginning of the command, why it is not run here). A reason that
# begins with FILE.bats: names the test that runs it, by the beginning of its
# title. Every entry must match a command, and every such test must exist.
UNRUN = [
    ("docs/install.md", "./quickstart.sh", "as in README.md"),
    ("docs/install.md", "cmake ", "builds all of spore; package_root.sh does"),
    ("docs/install.md", "apt-get install", "changes the host; package_root.sh "
     "does in a root of its own"),
    ("README.md", "./quickstart.sh",
     "builds spore itself and its guest kernel; test.sh does the same first"),
    ("README.md", "./test.sh", "runs this test"),
    ("README.md", "build/release/spore run --net user",
     "network.bats: user network: an ordinary user's guest"),
    ("README.md", "build/release/spore exec -it",
     "agent.bats: exec -it: a terminal of the right size"),
    ("README.md", "build/release/spore template build py",
     "template.bats: a template of a container image"),
    ("README.md", "build/release/spore run py",
     "warm.bats: by the template's name"),
    ("README.md", "build/release/spore serve",
     "serve.bats: a machine for each request"),
    ("README.md", "build/release/spore fuzz pack",
     "fuzz.bats: pack: without a boot the directory is all there"),
    ("README.md", "build/release/spore fuzz check",
     "fuzz.bats: check: says what a target is like"),
    ("README.md", "build/release/spore fuzz run",
     "fuzz.bats: run: afl-fuzz runs it"),
    ("docs/boot-time.md", "qemu-system-x86_64",
     "QEMU, with a kernel and an initrd that were made for the measurement"),
    ("docs/fuzzing.md", "sudo apt-get install", "changes the host"),
    ("docs/fuzzing.md", "AFL_PATH=", "fuzz.bats: run: afl-fuzz runs it"),
    ("docs/fuzzing-kernel.md", "vmlinux=$(guest/kernel/build_kcov.sh)",
     "builds a kernel for minutes; fuzz_kcov.bats does when there is one"),
    ("docs/fuzzing-kernel.md", "spore fuzz pack",
     "fuzz_kcov.bats: a kernel target needs a kernel with KCOV"),
    ("docs/fuzzing-kernel.md", "mkdir in", "input for the next one"),
    ("docs/fuzzing-kernel.md", "spore fuzz run",
     "fuzz_kcov.bats: afl-fuzz -X finds a bug"),
    ("docs/fuzzing-kernel.md", "spore fuzz repro",
     "fuzz_kcov.bats: an oops is a crash"),
    ("docs/fuzzing.md", "spore fuzz pack ./server",
     "a server of the reader's; test_fuzz_linux runs one with levels"),
    ("docs/serving.md", "cc clone_exec.c",
     "template.bats: a template of a container image"),
    ("docs/serving.md", "./clone_exec web",
     "template.bats: a template of a container image"),
    ("docs/serving.md", "spore template build py",
     "template.bats: a template of a container image"),
]

# Files that readers are taken to have: (document, name, where it is; of the
# bare guests, the source, or a folder of that).
GIVEN = [
    ("docs/serving.md", "function.elf", "guests:function.elf"),
]

# Lines that look like commands in a block without a prompt are a mistake.
LOOKS_LIKE_A_COMMAND = re.compile(
    r"(\./|build/|guest/|tests/|sudo |spore |spore-|curl |cmake |ctest |qemu-"
    r"|afl-|cat |echo |mkdir )")


class Command:
    def __init__(self, document, line, text):
        self.document = document
        self.line = line
        self.text = text
        self.output = []        # as shown; empty: anything

    @property
    def place(self):
        return f"{self.document}:{self.line}"

    @property
    def first_line(self):
        return self.text.split("\n")[0]

    def matches(self, document, beginning):
        return self.document == document and self.text.startswith(beginning)


def blocks_of(text):
    """Indented or fenced blocks: lists of (line number, text without indent)."""
    block = []
    fenced = False
    before_is_empty = True
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif fenced:
            block.append((number, line))
            continue
        elif line.startswith("    ") and (block or before_is_empty):
            block.append((number, line[4:]))
            continue
        elif line == "" and block:
            # Belongs to the block if that goes on behind it.
            block.append((number, ""))
            continue
        before_is_empty = line == ""
        if block:
            yield trim(block)
            block = []
    if block:
        yield trim(block)


def trim(block):
    while block and block[-1][1] == "":
        block.pop()
    return block


def commands_of(document, text):
    """Commands of a document, and complaints about blocks."""
    commands = []
    complaints = []
    for block in blocks_of(text):
        if not any(line.startswith("$ ") for _, line in block):
            complaints += [f"{document}:{number}: a command without a prompt?"
                           for number, line in block
                           if LOOKS_LIKE_A_COMMAND.match(line)]
            continue
        command = None
        for number, line in block:
            if line.startswith("$ "):
                command = Command(document, number, line[2:])
                commands.append(command)
            elif command is None:
                complaints.append(f"{document}:{number}: output of nothing")
            elif not command.output and command.text.endswith("\\"):
                command.text += "\n" + line
            else:
                command.output.append(line)
        for command in commands:
            trim_output(command)
    return commands, complaints


def trim_output(command):
    while command.output and command.output[-1] == "":
        command.output.pop()


# What stands for others of its kind, longest first; then all else as it is.
VARIABLE = [
    (r"\.\.\.", r".*?"),
    (r"\b[0-9a-f]{8,}\b", r"[0-9a-f]{8,}"),
    (r"\b\d+\.\d+\.\d+\b", r"\d+\.\d+\.\d+"),
    (r"\b\d+\.\d+", r"\d+(?:\.\d+)?"),
    (r"\b\d+(?= (?:ns|us|ms|s|KiB|MiB|GiB|bytes|runs/s|pages)\b)", r"\d+"),
]


def line_pattern(shown):
    """A regular expression for what a line stands for."""
    pattern = ""
    kinds = re.compile("|".join(f"({kind})" for kind, _ in VARIABLE))
    at = 0
    text = shown.strip()
    for found in kinds.finditer(text):
        pattern += re.escape(text[at:found.start()])
        pattern += VARIABLE[found.lastindex - 1][1]
        at = found.end()
    pattern += re.escape(text[at:])
    return re.sub(r"(\\ )+", r"\\s+", pattern)


def output_pattern(lines):
    pattern = ""
    for line in lines:
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += r"[ \t]*" + line_pattern(line) + r"[ \t]*\n"
    return re.compile(pattern)


def same_output(shown, printed):
    """Whether this is what the document shows."""
    if printed and not printed.endswith("\n"):
        printed += "\n"
    return output_pattern(shown).fullmatch(printed) is not None


class Reader:
    """A shell with a folder of its own: who goes through one document."""

    def __init__(self, folder, environment):
        self.folder = folder
        self.count = 0
        self.stuck = False      # in a command that does not end
        ends, self.ends_of_shell = os.pipe()
        self.ends = os.fdopen(ends, "r")
        self.shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], cwd=folder, env=environment,
            stdin=subprocess.PIPE, text=True, start_new_session=True,
            pass_fds=[self.ends_of_shell])

    def run(self, text):
        """Status, None if it takes too long; standard output and error."""
        self.count += 1
        script = self.folder.parent / f"{self.folder.name}.{self.count}.sh"
        output = script.with_suffix(".out")
        errors = script.with_suffix(".err")
        script.write_text(text, encoding="utf-8")
        out = self.ends_of_shell
        self.shell.stdin.write(
            f'eval "$(cat {script})" < /dev/null > {output} 2> {errors} '
            f"{out}>&-\n"
            f"echo $? >&{out}\n")
        self.shell.stdin.flush()
        status = self.read_status()
        return status, read(output), read(errors)

    def read_status(self):
        signal.signal(signal.SIGALRM, on_alarm)
        signal.alarm(COMMAND_LIMIT_S)
        try:
            return int(self.ends.readline())
        except (TimeoutError, ValueError):
            return None
        finally:
            signal.alarm(0)

    def end(self):
        self.shell.kill()
        self.shell.wait()
        os.close(self.ends_of_shell)
        self.ends.close()


def read(path):
    if not path.exists():       # the command has not begun
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def on_alarm(_number, _frame):
    raise TimeoutError


class DocumentTest:
    def __init__(self, root, programs):
        self.root = Path(root).resolve()
        self.programs = Path(programs).resolve()
        self.failures = []
        self.commands = {}      # document -> list
        paths = [self.root / "README.md"]
        paths += sorted((self.root / "docs").glob("*.md"))
        names = [str(path.relative_to(self.root)) for path in paths]
        for name in sorted(names, key=lambda n: (
                ORDER.index(n) if n in ORDER else len(ORDER), n)):
            text = (self.root / name).read_text(encoding="utf-8")
            self.commands[name], complaints = commands_of(name, text)
            self.failures += complaints
        self.results = {}       # command -> what became of it
        self.check_lists()

    def unrun_reason(self, command):
        for document, beginning, reason in UNRUN:
            if command.matches(document, beginning):
                return reason
        return None

    def check_lists(self):
        """Entries of the lists that are about nothing are mistakes."""
        everything = [c for cs in self.commands.values() for c in cs]
        for document, beginning, _ in UNRUN:
            if not any(c.matches(document, beginning) for c in everything):
                self.failures.append(
                    f"no command of {document} begins with '{beginning}'")
        for _, _, reason in UNRUN:
            named = re.match(r"(\w+\.bats): (.*)", reason)
            if named and not self.has_test(*named.groups()):
                self.failures.append(f"there is no test '{reason}'")

    def has_test(self, file, title):
        path = self.root / "tests" / "cli" / file
        return path.exists() and \
            f'@test "{title}' in path.read_text(encoding="utf-8")

    def prepare(self, scratch, document):
        folder = scratch / document.replace("/", "-").removesuffix(".md")
        (folder / "build").mkdir(parents=True)
        (folder / "build" / "release").symlink_to(self.programs)
        for where, name, source in GIVEN:
            if where == document:
                place, path = source.split(":")
                shutil.copy(Path(os.environ["SPORE_GUESTS"]) / path
                            if place == "guests" else self.root / path,
                            folder / name)
        return folder

    def run_document(self, document, scratch, environment):
        todo = []
        for command in self.commands[document]:
            reason = self.unrun_reason(command)
            if reason is None:
                todo.append(command)
            else:
                self.results[command] = reason
        if not todo:
            return
        reader = Reader(self.prepare(scratch, document), environment)
        for command in todo:
            if reader.stuck:
                self.failures.append(f"{command.place}: not reached")
                continue
            began = time.monotonic()
            problem = self.run_command(command, reader)
            took = time.monotonic() - began
            print(f"{'FAILED' if problem else 'ok':6} {took:6.1f} s  "
                  f"{command.place}: {command.first_line}", flush=True)
            if problem:
                self.failures.append(f"{command.place}: {problem}")
            self.results[command] = "run"
        reader.end()

    def run_command(self, command, reader):
        """None, or what is wrong."""
        made = re.fullmatch(r"cat ([\w.-]+)", command.text)
        if made and not (reader.folder / made.group(1)).exists():
            (reader.folder / made.group(1)).write_text(
                "\n".join(command.output) + "\n", encoding="utf-8")
        status, printed, errors = reader.run(command.text)
        if status is None:
            reader.stuck = True
            return f"no end within {COMMAND_LIMIT_S} s:\n{printed}{errors}"
        if status != 0:
            return f"status {status}:\n{printed}{errors}"
        if command.output and not same_output(command.output, printed):
            return f"prints something else:\n{printed}"
        return None

    def print_table(self):
        head = ("document", "commands", "run", "by other tests", "not run")
        rows = []
        for document, commands in self.commands.items():
            if not commands:
                continue
            states = [self.results.get(c, "") for c in commands]
            tests = [s for s in states if ".bats: " in s]
            rows.append((document, len(commands), states.count("run"),
                         len(tests), len(commands) - states.count("run")
                         - len(tests)))
        print("\n{:24} {:>8} {:>5} {:>14} {:>8}".format(*head))
        for row in rows:
            print("{:24} {:>8} {:>5} {:>14} {:>8}".format(*row))
        print("\nNot run here, and why or by which test:")
        for command, state in self.results.items():
            if state != "run":
                print(f"  {command.place}: {command.first_line}\n"
                      f"      {state}")


def marked_processes(mark):
    """Those that inherited our mark in their environment."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"SPORE_TEST_MARK={mark}".encode() in \
                    path.read_bytes().split(b"\0"):
                yield int(path.parent.name)
        except OSError:
            continue


def end_marked(mark):
    """Servers, machines and zygotes that documents leave running."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in marked_processes(mark):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        end = time.monotonic() + 20
        while list(marked_processes(mark)) and time.monotonic() < end:
            time.sleep(0.1)


def why_nothing_runs(programs):
    """What is missing on this host, or None."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "/dev/kvm cannot be opened"
    tried = subprocess.run(
        [f"{programs}/spore", "run", "--cold", "--timeout", "0.001", "--",
         "true"], capture_output=True, text=True, timeout=60,
        stdin=subprocess.DEVNULL)
    return tried.stderr if "quickstart.sh" in tried.stderr else None


def main():
    arguments = sys.argv[1:]
    only_list = "--list" in arguments
    arguments = [a for a in arguments if a != "--list"]
    if len(arguments) < 2:
        raise SystemExit(__doc__)
    test = DocumentTest(arguments[0], arguments[1])
    documents = arguments[2:] or list(test.commands)
    if not only_list and not test.failures:
        missing = why_nothing_runs(test.programs)
        if missing is not None:
            print(f"cannot run: {missing}")
            return 1 if os.environ.get("SPORE_MUST_WORK") == "1" else 77
        # A short path: those of Unix sockets are below it.
        scratch = Path(tempfile.mkdtemp(prefix="spore-doc."))
        environment = dict(os.environ, SPORE_TEST_MARK=str(scratch),
                           XDG_RUNTIME_DIR=str(scratch / "run"),
                           XDG_DATA_HOME=str(scratch / "data"),
                           TMPDIR=str(scratch), LC_ALL="C",
                           PATH=f"{test.programs}:{os.environ['PATH']}")
        (scratch / "run").mkdir(mode=0o700)
        try:
            for document in documents:
                test.run_document(document, scratch, environment)
        finally:
            end_marked(scratch)
            shutil.rmtree(scratch, ignore_errors=True)
    elif only_list:
        for command in (c for cs in test.commands.values() for c in cs):
            test.results[command] = test.unrun_reason(command) or "run"
    test.print_table()
    print("\n".join(["", *test.failures]))
    return 1 if test.failures else 0


if __name__ == "__main__":
    sys.exit(main())
