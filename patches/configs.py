# SPDX-License-Identifier: GPL-2.0
"""The configurations that patches/check --configs compiles what the series
changes for: beside the kernel of the test bed these have other sizes, another
byte order, another compiler, or not what the driver can do without."""

import os
import re
from typing import NamedTuple

HOST = "drivers/nvme/host"

# What all have, and one has not.
OPTIONAL = ("NVME_MULTIPATH", "BLK_DEV_ZONED", "BLK_DEV_INTEGRITY", "IO_URING",
            "SYNC_FILE", "CGROUPS", "MEMCG", "TRANSPARENT_HUGEPAGE")
COMMON = ("MMU", "SMP", "MULTIUSER", "SYSFS", "PROC_FS", "PCI", "PCI_MSI",
          "BLOCK", "BLK_DEV", "BLK_DEV_NVME")
# Only with one of the options above is this needed: what the object refers to.
STUBS = re.compile(r" U ((?:dma_buf|dma_resv|_*io_uring|nvme_mpath)\w*)$")


class Config(NamedTuple):
    """A configuration: CONFIG_* lines beside the common ones, arguments of
    make, and what is special about it."""
    name: str
    lines: tuple = ()
    args: tuple = ()
    least: bool = False
    sparse: bool = False


CONFIGS = (
    Config("i386", ("# CONFIG_64BIT is not set",), ("ARCH=i386",)),
    Config("arm64, 64 KiB pages", ("CONFIG_ARM64_64K_PAGES=y",),
           ("ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-")),
    Config("s390x, sparse", (),
           ("ARCH=s390", "CROSS_COMPILE=s390x-linux-gnu-"), sparse=True),
    Config("clang", ("CONFIG_64BIT=y", "CONFIG_IA32_EMULATION=y"),
           ("ARCH=x86_64", "CC=clang")),
    # io_uring is for experts to leave out, who would not like to have no log;
    # with neither that nor networks users have no count of locked pages
    Config("least", ("CONFIG_64BIT=y", "CONFIG_EXPERT=y", "CONFIG_PRINTK=y",
                     "CONFIG_BUG=y", "# CONFIG_NET is not set",
                     "# CONFIG_DMA_SHARED_BUFFER is not set"),
           ("ARCH=x86_64",), least=True),
)


def fragment(config):
    off = [f"# CONFIG_{name} is not set" for name in OPTIONAL]
    on = [f"CONFIG_{name}=y" for name in OPTIONAL]
    lines = [f"CONFIG_{name}=y" for name in COMMON]
    lines += off if config.least else on
    return [*lines, *config.lines]


def objects(config, changed, there):
    """What to compile: sources that the series changes and this can have."""
    names = []
    for name in changed:
        if not re.fullmatch(rf"(?:{HOST}|io_uring)/[\w-]+\.c", name):
            continue
        # what is not there with what this has not
        if config.least and (name.startswith("io_uring/") or
                             name.endswith(("/multipath.c", "/dmabuf.c"))):
            continue
        # hooks of other transports and modules have no object here
        if os.path.exists(f"{there}/{name}"):
            names.append(name[:-1] + "o")
    return names


def findings(output, changed):
    """Warnings and errors, but not of what the base has already."""
    found = []
    for line in output.splitlines():
        if re.search(r"\b(?:warning|error):", line, re.I) and \
           any(f"/{name}:" in line or line.startswith(f"{name}:")
               for name in changed):
            found.append(line)
    return found


def check(config, linux, obj, make, run, bad, changed, new):
    """Compile it: bad(text) if something is found.  @changed and @new: files
    that the series changes, and those of them that it adds."""
    os.makedirs(obj, exist_ok=True)
    wanted = fragment(config)
    with open(f"{obj}/fragment", "w") as file:
        file.write("".join(f"{line}\n" for line in wanted))
    make = (*make, "-C", linux, f"O={obj}", *config.args)
    run(*make, "allnoconfig", f"KCONFIG_ALLCONFIG={obj}/fragment")
    got = open(f"{obj}/.config").read().splitlines()
    lost = [line for line in wanted if line.startswith("CONFIG_") and
            line not in got]
    if lost:
        raise bad(f"{config.name}: this kernel does not take: "
                  + ", ".join(lost))
    run(*make, "prepare")
    names = objects(config, changed, linux)
    for name in names:
        if os.path.exists(f"{obj}/{name}"):
            os.remove(f"{obj}/{name}")
    out = run(*make, "-k", *(("C=2", "CHECK=sparse") if config.sparse else ()),
              *names, status=(0, 2))
    missing = [name for name in names if not os.path.exists(f"{obj}/{name}")]
    found = findings(out, new if config.sparse and not missing else changed)
    if missing or found:
        raise bad(f"{config.name}:\n" + "\n".join(
            found or out.splitlines()[-20:]))
    if config.least:
        for name in names:
            symbols = run(*make[:make.index("make")], "nm", f"{obj}/{name}")
            undefined = [match[1] for match in map(STUBS.search,
                                                   symbols.splitlines())
                         if match]
            if undefined:
                raise bad(f"{config.name}: {name} refers to "
                          + ", ".join(undefined))
