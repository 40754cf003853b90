# SPDX-License-Identifier: GPL-2.0
"""The supported kernels, as in qemu/bases."""

import os


def names():
    path = os.path.join(os.path.dirname(os.path.realpath(__file__)), "bases")
    with open(path, encoding="utf-8") as file:
        return tuple(line.split()[0] for line in file
                     if line.strip() and not line.startswith("#"))


BASES = names()
