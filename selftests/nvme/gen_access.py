#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Make the C tables of the access test from those of Documentation/access.rst.

The first rule that applies decides. A rule applies where the queue, the
command set, the opcode and CDW10 7:0 are in the row and its condition holds.
"""

import argparse
import csv
import re
import sys

QUEUES = {"I/O": "ACCESS_IO", "admin": "ACCESS_ADMIN"}
NEEDS = {"read": "ACCESS_READ", "write": "ACCESS_WRITE",
         "CAP_SYS_ADMIN": "ACCESS_CAP", "nobody": "ACCESS_NOBODY"}
CONDITIONS = {"": "ACCESS_ALWAYS", "CSUPP clear": "ACCESS_NO_CSUPP",
              "other effect": "ACCESS_OTHER_EFFECT",
              "length unknown": "ACCESS_NO_LENGTH",
              "LBCC set": "ACCESS_LBCC",
              "opcode bit 0 set": "ACCESS_TO_CONTROLLER"}


class BadTable(Exception):
    """A cell means nothing: where and why."""


def rows(path, title):
    """Rows of the csv-table of that title as dictionaries, each with where it
    is."""
    with open(path, encoding="utf-8") as file:
        lines = list(enumerate(file, 1))
    for at, (_, line) in enumerate(lines):
        if line.rstrip() == f".. csv-table:: {title}":
            break
    else:
        raise BadTable(f"{path}: no csv-table '{title}'")
    header = None
    for number, line in lines[at + 1:]:
        text = line.strip()
        if text and not line.startswith("   "):
            return
        if not text:
            continue
        if text.startswith(":header:"):
            text = text[len(":header:"):]
        cells = [cell.strip() for cell in
                 next(csv.reader([text], skipinitialspace=True))]
        where = f"{path}:{number}"
        if not header:
            header = cells
        elif len(cells) != len(header):
            raise BadTable(f"{where}: {len(cells)} cells, the header has "
                           f"{len(header)}")
        else:
            yield where, dict(zip(header, cells))


def one_of(where, cell, words):
    if cell not in words:
        raise BadTable(f"{where}: '{cell}' is none of: "
                       + ", ".join(repr(w) for w in words))
    return words[cell]


def ranges(where, cell, everything):
    """'any' or nothing, or a list like '00h 10h-1Fh', as (first, last)."""
    if cell in ("any", ""):
        return [everything]
    result = []
    for word in cell.split():
        match = re.fullmatch(r"([0-9A-F]{2})h(?:-([0-9A-F]{2})h)?", word)
        if not match:
            raise BadTable(f"{where}: '{word}' is neither like 10h nor like "
                           "10h-1Fh")
        first = int(match[1], 16)
        last = int(match[2] or match[1], 16)
        if first > last:
            raise BadTable(f"{where}: '{word}' ends before it begins")
        result.append((first, last))
    return result


def spans(where, row, names):
    """All combinations of the ranges in these cells, as C initializers."""
    result = [""]
    for member, name in names:
        result = [f"{head}.{member} = {{ {first:#04x}, {last:#04x} }}, "
                  for head in result
                  for first, last in ranges(where, row[name], (0, 0xff))]
    return result


def rules(path):
    for where, row in rows(path, "Rules"):
        rest = (f".queue = {one_of(where, row['Queue'], QUEUES)}, "
                f".condition = {one_of(where, row['Condition'], CONDITIONS)}, "
                f".needs = {one_of(where, row['Needs'], NEEDS)}")
        for span in spans(where, row, (("csi", "Command set"),
                                       ("opcode", "Opcode"),
                                       ("dw10", "CDW10 7:0"))):
            yield f"\t{{ {span}{rest} }},"


def lengths(path):
    for where, row in rows(path, "Lengths"):
        for span in spans(where, row, (("csi", "Command set"),
                                       ("opcode", "Opcode"))):
            yield f"\t{{ {span}}},"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", help="Documentation/access.rst")
    args = parser.parse_args()
    try:
        print("/* SPDX-License-Identifier: GPL-2.0 */",
              f"/* Made by gen_access.py from {args.text}. */",
              "static const struct access_rule access_rules[] = {",
              *rules(args.text), "};", "",
              "static const struct access_length access_lengths[] = {",
              *lengths(args.text), "};", sep="\n")
    except (OSError, KeyError, BadTable) as error:
        print(f"gen_access.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
