#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Compares the man pages with what the programs say of themselves.

    check_man.py SOURCE-ROOT FOLDER-OF-PROGRAMS

Every command of `spore help` has a page and is in spore(1), and the other way
round. Every option that a command's --help shows is in its page and the other
way round; so is every subcommand. Every page has the sections that people look
for, refers to pages that exist, and is formatted without a complaint.
"""
import re
import shutil
import subprocess
import sys
from pathlib import Path

# Programs with a page of their own beside `spore`.
PROGRAMS = ["spore-afl", "spore-firecracker", "spore-jailer"]
# Commands of `spore` that spore(1) alone describes.
NO_PAGE = {"version", "help"}
# Pages of commands that take all options of another command's.
TAKES_OPTIONS_OF = {"spore-restore": "spore-run"}
SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "SEE ALSO"]
# Those that say what is wrong with a page; matters of style are left to us.
FORMATTERS = [["groff", "-mdoc", "-ww", "-z", "-Tutf8"],
              ["mandoc", "-Tlint", "-Wwarning"]]

OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z0-9-]*|-[A-Za-z0-9])(?![\w-])")


def help_of(program, words):
    """What `PROGRAM WORDS --help` prints."""
    done = subprocess.run([program, *words, "--help"], capture_output=True,
                          text=True, timeout=60, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise SystemExit(f"{program} {' '.join(words)} --help: status "
                         f"{done.returncode}: {done.stderr.strip()}")
    return done.stdout


def usage_of(text):
    """The lines up to the first empty one."""
    return text.split("\n\n", 1)[0]


def options_in_help(text):
    """Options that a help text defines: those of its usage and of its list."""
    found = set(OPTION.findall(usage_of(text)))
    for line in text.splitlines():
        # "  -k, --kernel FILE       what it is"; the text begins behind two
        # blanks, or on the next line.
        if re.match(r" {2,6}-", line):
            definition = re.match(r"(.*?\S)(?: {2,}|$)", line.strip())
            found.update(OPTION.findall(definition.group(1)))
    return found


def subcommands_in_help(text, words):
    """Names of `spore WORDS NAME`, from the usage or from a list of them."""
    prefix = "spore " + " ".join(words)
    names = set(re.findall(rf"{re.escape(prefix)} ([a-z][a-z-]*)\b",
                           usage_of(text)))
    if "COMMAND" in usage_of(text).split("\n")[0].split("[")[0]:
        names.update(re.findall(r"^  ([a-z][a-z-]*) +\S", text, re.M))
    return names


def options_in_page(source):
    """Options that a page defines: in its synopsis and its tagged lists."""
    found = set()
    section = ""
    for line in source.splitlines():
        heading = re.match(r"\.Sh (.*)", line)
        if heading:
            section = heading.group(1)
        is_tag = line.startswith(".It ")
        if not line.startswith(".") or not (is_tag or section == "SYNOPSIS"):
            continue
        in_flags = False
        for word in line[1:].split():
            if word == "Fl":
                in_flags = True
            elif re.fullmatch(r"[A-Z][a-z]", word):
                in_flags = False
            elif in_flags and OPTION.fullmatch("-" + word):
                # Without its first dash, in roff.
                found.add("-" + word)
    return found


class Checker:
    def __init__(self, root, programs):
        self.man = Path(root) / "docs" / "man"
        self.programs = Path(programs)
        self.spore = str(self.programs / "spore")
        self.problems = []
        self.formatters = []
        for tool in FORMATTERS:
            if shutil.which(tool[0]) is None:
                print(f"not checked with {tool[0]}: it is not installed")
            else:
                self.formatters.append(tool)
        self.sources = {}   # page -> its text
        self.aliases = {}   # page -> the page that it includes
        for path in sorted(self.man.glob("*.1")):
            text = path.read_text(encoding="utf-8")
            include = re.fullmatch(r"\.so man1/(\S+)\.1\n", text)
            if include:
                self.aliases[path.stem] = include.group(1)
            else:
                self.sources[path.stem] = text

    def problem(self, page, text):
        self.problems.append(f"docs/man/{page}.1: {text}")

    def check_commands(self):
        """Commands against pages and against the list in spore(1)."""
        shown = set(re.findall(r"^  ([a-z][a-z-]*) ",
                               help_of(self.spore, []), re.M))
        listed = set()
        for line in re.findall(r"^\.It Cm (.*)", self.sources["spore"], re.M):
            listed.update(re.findall(r"[a-z][a-z-]*", line))
        for name in sorted(shown - listed):
            self.problem("spore", f"the command {name} is missing")
        for name in sorted(listed - shown):
            self.problem("spore", f"there is no command {name}")
        wanted = {"spore"} | set(PROGRAMS)
        wanted |= {f"spore-{name}" for name in shown - NO_PAGE}
        pages = set(self.sources) | set(self.aliases)
        for name in sorted(wanted - pages):
            self.problem(name, "there is no such page")
        for name in sorted(pages - wanted):
            self.problem(name, "is of no command")
        for name, target in self.aliases.items():
            if target not in self.sources:
                self.problem(name, f"includes {target}.1, which is missing")
            elif not re.search(rf"^\.Nm .*\b{name}\b",
                               self.sources[target], re.M):
                self.problem(target, f"does not name {name}")
        return shown

    def texts_of(self, page, commands):
        """Help texts that a page stands for: [(words, text)]."""
        if page in PROGRAMS:
            return [([], help_of(str(self.programs / page), []))]
        names = [page] + [a for a, target in self.aliases.items()
                          if target == page]
        texts = []
        for name in names:
            word = name.removeprefix("spore-")
            if word not in commands:
                continue
            text = help_of(self.spore, [word])
            texts.append(([word], text))
            for sub in sorted(subcommands_in_help(text, [word])):
                texts.append(([word, sub], help_of(self.spore, [word, sub])))
        return texts

    def check_options(self, page, commands):
        shown = set()
        for words, text in self.texts_of(page, commands):
            shown |= options_in_help(text)
            if len(words) == 2 and not re.search(
                    rf"^\.(Nm|It Nm|It Cm)\b.*\b{words[1]}\b",
                    self.sources[page], re.M):
                self.problem(page, f"the subcommand {words[1]} is missing")
        if page in TAKES_OPTIONS_OF:
            shown -= options_in_help(help_of(self.spore, ["run"]))
        defined = options_in_page(self.sources[page])
        for option in sorted(shown - defined):
            self.problem(page, f"{option} of --help is missing")
        for option in sorted(defined - shown):
            self.problem(page, f"--help does not know {option}")

    def check_form(self, page):
        source = self.sources[page]
        headings = re.findall(r"^\.Sh (.*)", source, re.M)
        for section in SECTIONS:
            if section not in headings:
                self.problem(page, f"has no section {section}")
        for target in re.findall(r"^\.Xr (spore\S*) \d", source, re.M):
            if target not in self.sources and target not in self.aliases:
                self.problem(page, f"refers to {target}(1), which is missing")
        path = str(self.man / f"{page}.1")
        for tool in self.formatters:
            done = subprocess.run([*tool, path], capture_output=True,
                                  text=True, timeout=60)
            for line in (done.stdout + done.stderr).splitlines():
                self.problem(page, f"{tool[0]}: {line.split(path)[-1]}")

    def check(self):
        commands = self.check_commands()
        for page in sorted(self.sources):
            if page != "spore":
                self.check_options(page, commands)
            self.check_form(page)
        return self.problems


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    checker = Checker(sys.argv[1], sys.argv[2])
    problems = checker.check()
    print("\n".join(problems))
    print(f"{len(checker.sources)} pages, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
