# SPDX-License-Identifier: GPL-2.0
"""What of the launcher needs no guest."""

import argparse
import contextlib
import io
import socket
import time
import unittest
import unittest.mock

import loaded

vm = loaded.script("qemu/vm")


class Monitor(unittest.TestCase):
    def setUp(self):
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)
        self.monitor = vm.Monitor(self.ours)

    def test_answer_behind_an_event(self):
        self.theirs.sendall(b'{"event": "SHUTDOWN"}\n{"ret')
        self.theirs.sendall(b'urn": 7}\n')
        self.assertEqual(self.monitor.command("quit")["return"], 7)
        self.assertTrue(self.monitor.shutdown())

    def test_no_answer(self):
        started = time.monotonic()
        with unittest.mock.patch.object(vm, "ANSWER", 0.1), \
             self.assertRaises(OSError):
            self.monitor.command("quit")
        self.assertLess(time.monotonic() - started, 5)

    def test_end(self):
        self.theirs.close()
        with self.assertRaises(OSError):
            self.monitor.command("quit")


class Status(unittest.TestCase):
    def test_own_fault_is_not_1(self):
        def fails(_):
            raise ValueError("made up")

        args = argparse.Namespace(call=fails)
        with unittest.mock.patch.object(vm.Parser, "parse_args", lambda *_: args), \
             contextlib.redirect_stderr(io.StringIO()) as err:
            self.assertEqual(vm.main(), 2)
        self.assertIn("ValueError: made up", err.getvalue())


class Files(unittest.TestCase):
    def unseen(self, *arguments):
        return vm.unseen(argparse.Namespace(
            qemu_arg=arguments, device=[], share="/var/a", state=None))

    def test_seen(self):
        self.assertIsNone(self.unseen(
            "-cpu", "EPYC-v1,-erms", "file=/var/a/x", f"{vm.TOP}/README.md,x=1",
            "path=/dev/null"))

    def test_unseen(self):
        for argument in ("/var/x", "a,file=/var/x", "file:/var/x,a", "/var/ab/x"):
            self.assertIn("/var/", self.unseen("-plugin", argument), argument)


class Trouble(unittest.TestCase):
    def test_found(self):
        for line in ("WARNING: CPU: 0 PID: 1 at", "BUG: KASAN: slab", "Oops: 0000",
                     "DMAR: [DMA Read] Request device [01:00.0] fault",
                     "INFO: task fio:99 blocked for more", "refcount_t: underflow"):
            self.assertTrue(vm.TROUBLE.search(line), line)

    def test_not_found(self):
        for line in ("selftests: nvme: kv", "nvme nvme0: resetting controller",
                     "possible CPUs: 2", "DMAR: Intel(R) Virtualization Technology"):
            self.assertFalse(vm.TROUBLE.search(line), line)


if __name__ == "__main__":
    unittest.main()
