#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What doc_commands.py and check_man.py read out of documents and help texts."""
import sys
import unittest

sys.dont_write_bytecode = True

import check_man  # noqa: E402
import doc_commands  # noqa: E402


class Blocks(unittest.TestCase):
    def commands(self, text):
        commands, complaints = doc_commands.commands_of("x.md", text)
        self.assertEqual(complaints, [])
        return [(c.line, c.text, c.output) for c in commands]

    def test_commands_and_what_they_print(self):
        self.assertEqual(self.commands(
            "text\n\n    $ one\n    out\n\n    more\n    $ two \\\n"
            "          on\n    $ three\n\ntext\n"),
            [(3, "one", ["out", "", "more"]),
             (7, "two \\\n      on", []), (9, "three", [])])

    def test_fences(self):
        self.assertEqual(self.commands("```\n$ one\nout\n```\n$ no\n"),
                         [(2, "one", ["out"])])

    def test_paragraphs_of_lists_are_no_blocks(self):
        self.assertEqual(self.commands("* text\n    $ no\n"), [])

    def test_commands_without_a_prompt(self):
        _, complaints = doc_commands.commands_of(
            "x.md", "text\n\n    spore run\n\n    host  EXEC {}\n")
        self.assertEqual(complaints,
                         ["x.md:3: a command without a prompt?"])


class Output(unittest.TestCase):
    def same(self, shown, printed):
        return doc_commands.same_output(shown.split("\n"), printed)

    def test_words_are_compared(self):
        self.assertTrue(self.same("a  b", "a b\n"))
        self.assertTrue(self.same("a\nb", "a\nb"))
        self.assertFalse(self.same("a", "a\nb\n"))
        self.assertFalse(self.same("a\nb", "a\n"))
        self.assertFalse(self.same("a.b", "axb\n"))

    def test_whole_numbers_are_compared(self):
        self.assertTrue(self.same("42", "42\n"))
        self.assertFalse(self.same("42", "43\n"))

    def test_what_no_two_runs_share(self):
        self.assertTrue(self.same("6.12.117", "6.12.9\n"))
        self.assertFalse(self.same("6.12.117", "6.12\n"))
        self.assertTrue(self.same("took 1.5 ms", "took 20 ms\n"))
        self.assertTrue(self.same("in 5 ms", "in 7 ms\n"))
        self.assertFalse(self.same("in 5 places", "in 7 places\n"))
        self.assertTrue(self.same("8ed7b4e2c11ee440", "00d7b4e2\n"))

    def test_anything(self):
        self.assertTrue(self.same("made at ...", "made at noon\n"))
        self.assertTrue(self.same("a\n...\nz", "a\nb\nc\nz\n"))
        self.assertFalse(self.same("a\n...\nz", "a\nb\n"))


class Help(unittest.TestCase):
    def test_options(self):
        self.assertEqual(check_man.options_in_help(
            "usage: spore x [--all] ID\n\nSee --other.\n\n"
            "  -k, --kernel FILE   as --initrd\n"
            "      --very-long WORD\n"
            "                      -n of them\n"
            "      --rng, --no-rng\n  --cpu v2, -v3, -v4: hide\n"),
            {"--all", "-k", "--kernel", "--very-long", "--rng", "--no-rng",
             "--cpu"})

    def test_pages(self):
        self.assertEqual(check_man.options_in_page(
            ".Sh SYNOPSIS\n.Nm x\n.Op Fl -all\n.Sh DESCRIPTION\n"
            "see\n.Fl -other\n.Bl\n.It Fl k , -kernel Ar file\n"
            ".It Fl -rng | Fl -no-rng\n.It Ev HOME\n"),
            {"--all", "-k", "--kernel", "--rng", "--no-rng"})

    def test_subcommands(self):
        self.assertEqual(check_man.subcommands_in_help(
            "usage: spore a ls [--json]\n       spore a rm ID\n\ntext\n",
            ["a"]), {"ls", "rm"})
        self.assertEqual(check_man.subcommands_in_help(
            "usage: spore a COMMAND [options]\n\n  pack  text\n", ["a"]),
            {"pack"})


if __name__ == "__main__":
    unittest.main()
