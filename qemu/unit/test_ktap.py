# SPDX-License-Identifier: GPL-2.0
"""The reader of what run_kselftest.sh prints, and the verdicts made of it."""

import contextlib
import io
import unittest

import loaded

check = loaded.script("qemu/check")
ktap = check.ktap


def output(number, name, nested, ending="ok", note=""):
    """What run_kselftest.sh prints of one test."""
    return [f"# timeout set to 45\n# selftests: nvme: {name}",
            *(f"# {line}" for line in nested),
            f"{ending} {number} selftests: nvme: {name}{note}"]


def read(tests, lines):
    results = []
    reader = ktap.Results(tests, lambda *result: results.append(result))
    for line in "\n".join(["TAP version 13", f"1..{len(tests)}", *lines]).split("\n"):
        reader.line(line)
    return results


class Reader(unittest.TestCase):
    def one(self, *args, **kwargs):
        (result, test, seconds, detail, bad), = read(
            ["nvme:kv"], output(1, "kv", *args, **kwargs))
        self.assertEqual(test, "nvme:kv")
        self.assertGreaterEqual(seconds, 0)
        return result, detail, bad

    def test_passed(self):
        result, _, bad = self.one(["1..2", "ok 1 a", "ok 2 b # SKIP no c"])
        self.assertEqual((result, bad), ("ok", []))

    def test_failed(self):
        result, detail, bad = self.one(
            ["1..2", "not ok 1 B/1 a", "ok 2 b"], "not ok", " # exit=1")
        self.assertEqual((result, bad), ("FAIL", ["B/1 a"]))
        self.assertEqual(detail, "exit=1\n1..2\nnot ok 1 B/1 a")

    def test_failed_case_in_a_test_that_passes(self):
        result, detail, _ = self.one(["1..1", "not ok 1 a"])
        self.assertEqual(result, "FAIL")
        self.assertIn("passed, but not 'a'", detail)

    def test_skipped(self):
        result, detail, _ = self.one(["1..0 # SKIP no zones"], "ok", " # SKIP")
        self.assertEqual((result, detail), ("skip", "no zones"))

    def test_tested_nothing(self):
        self.assertEqual(self.one(["1..0"])[0], "FAIL")

    def test_fewer_than_planned(self):
        result, detail, _ = self.one(["1..3", "ok 1 a"])
        self.assertEqual((result, detail.split("\n")[0]),
                         ("FAIL", "3 results planned, 1 given"))

    def test_no_plan(self):
        self.assertEqual(self.one([])[1].split("\n")[0], "no plan")

    def test_many_failures(self):
        """What is shown ends, what is known does not."""
        nested = ["1..100"] + [f"not ok {n} case {n}" for n in range(1, 101)]
        _, detail, bad = self.one(nested, "not ok", " # exit=1")
        self.assertEqual(len(bad), 100)
        self.assertEqual(len(detail.split("\n")), 1 + ktap.SHOWN)

    def test_broken(self):
        for lines in (output(2, "kv", ["1..0"]), output(1, "zns", ["1..0"]),
                      output(1, "kv", ["ok 1 a"]), output(1, "kv", ["1..1", "1..1"]),
                      output(1, "kv", ["1..2", "ok 2 a"]),
                      output(1, "kv", ["1..1", "ok 1 a"]) + output(2, "kv", [])):
            with self.subTest(lines=lines), self.assertRaises(ktap.Broken):
                read(["nvme:kv"], lines)

    def test_header(self):
        reader = ktap.Results(["nvme:kv"], None)
        with self.assertRaises(ktap.Broken):
            reader.line("sh: not found")


class Stock(unittest.TestCase):
    """What must fail with the stock modules."""

    def run_stock(self, must_fail, lines, status=1):
        def kselftest(_where, _options, tests, done, env=()):
            for result in read(tests, lines):
                done(*result)
            return status, None, True

        original = check.kselftest
        check.kselftest = kselftest
        check.totals = dict.fromkeys(check.totals, 0)
        try:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                check.stock("6.1", must_fail)
        finally:
            check.kselftest = original
        return check.totals["ok"], check.totals["FAIL"], out.getvalue()

    def test_named_case_above_what_is_shown(self):
        nested = ["1..90", "not ok 1 B/1 short_read"]
        nested += [f"not ok {n} other_{n}" for n in range(2, 91)]
        self.assertEqual(self.run_stock(
            {"nvme:defects": ["short_read", "other_90"]},
            output(1, "defects", nested, "not ok", " # exit=1"))[:2], (1, 0))

    def test_named_case_passes(self):
        _, failed, out = self.run_stock(
            {"nvme:defects": ["short_read"]},
            output(1, "defects", ["1..2", "ok 1 short_read", "not ok 2 x_short_reads"],
                   "not ok", " # exit=1"))
        self.assertEqual(failed, 1)
        self.assertIn("must fail, but do not: short_read", out)

    def test_passes(self):
        self.assertEqual(self.run_stock(
            {"nvme:kv": []}, output(1, "kv", ["1..1", "ok 1 a"]), 0)[:2], (0, 1))


class Flaky(unittest.TestCase):
    def test_named(self):
        check.results_of.clear()
        for test, results in (("always", ["FAIL"] * 3), ("never", ["ok"] * 3),
                              ("now and then", ["ok", "FAIL", "ok"])):
            check.results_of["6.1 ours", test] = results
        with contextlib.redirect_stdout(io.StringIO()) as out:
            check.flaky()
        self.assertEqual(out.getvalue(),
                         "flaky: 6.1 ours now and then: 1 of 3 failed\n")


if __name__ == "__main__":
    unittest.main()
