# SPDX-License-Identifier: GPL-2.0
"""Read the KTAP that run_kselftest.sh prints."""

import re
import time

# Lines of a failed test that are shown.
SHOWN = 40


class Broken(Exception):
    """Output that is not the KTAP that was due."""


class Nested:
    """The results inside of one test, without the '# ' before each line."""

    def __init__(self):
        self.plan = None
        self.skipped = ""
        self.done = 0
        self.bad = []
        self.lines = []

    def line(self, text):
        self.lines.append(text)
        plan = re.match(r"1\.\.(\d+)(?: # SKIP ?(.*))?$", text)
        result = re.match(r"(not )?ok (\d+)(?: |$)(.*)$", text)
        if plan:
            if self.plan is not None:
                raise Broken("two plans")
            self.plan = int(plan[1])
            self.skipped = plan[2] or ""
        elif result:
            if self.plan is None:
                raise Broken("a result before the plan")
            self.done += 1
            if int(result[2]) != self.done:
                raise Broken(f"result {result[2]} where {self.done} is due")
            if result[1]:
                self.bad.append(result[3])

    def finish(self, result):
        """Does what the test printed agree with how it ended?"""
        if result == "FAIL":
            return
        if self.plan is None:
            raise Broken("no plan")
        if self.done != self.plan:
            raise Broken(f"{self.plan} results planned, {self.done} given")
        if self.bad:
            raise Broken(f"passed, but not '{self.bad[0]}'")
        if result == "ok" and not self.plan:
            raise Broken("passed, but tested nothing")


class Results:
    """What run_kselftest.sh prints, line by line.

    Each result is handed over when its line has come: 'ok', 'FAIL' or 'skip',
    name of the test, seconds, text for people, names of the failed cases. The
    text has the last lines only, the names are those of the whole output."""

    def __init__(self, tests, done):
        self.tests = tests
        self.done = done        # called with result, test, seconds, detail, bad
        self.number = 0
        self.headers = 0
        self.started = time.monotonic()
        self.nested = Nested()
        self.running = False

    def line(self, text):
        if self.headers < 2:
            want = ("TAP version 13", f"1..{len(self.tests)}")[self.headers]
            if text != want:
                raise Broken(f"'{text}' where '{want}' is due")
            self.headers += 1
            return
        if text.startswith("# selftests: ") and not self.running:
            self.running = True
            self.started = time.monotonic()
            self.nested = Nested()
            return
        result = re.match(r"(not )?ok (\d+) selftests: (\S+): (\S+)(?: # (.*))?$",
                          text)
        if result:
            self.result(result)
        elif self.running and text.startswith("# "):
            self.nested.line(text[2:])

    def result(self, match):
        if self.number == len(self.tests):
            raise Broken("more results than planned")
        name = f"{match[3]}:{match[4]}"
        due = self.tests[self.number]
        if int(match[2]) != self.number + 1 or name != due or not self.running:
            raise Broken(f"result {match[2]} of {name} where {due} is due")
        note = match[5] or ""
        result = ("FAIL" if match[1] else
                  "skip" if note.startswith("SKIP") else "ok")
        detail = note
        try:
            self.nested.finish(result)
        except Broken as error:
            result, detail = "FAIL", str(error)
        if result == "FAIL":
            told = [line for line in self.nested.lines
                    if not line.startswith("ok ")]
            detail = "\n".join([detail, *told[-SHOWN:]])
        elif result == "skip":
            detail = self.nested.skipped or "every case"
        self.number += 1
        self.running = False
        self.done(result, name, time.monotonic() - self.started, detail,
                  self.nested.bad)
