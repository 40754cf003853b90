# SPDX-License-Identifier: GPL-2.0
"""Write a source of the module form as one kernel has it.

The module form is one source for several kernels: what differs is behind
names that compat.h defines, or between #if LINUX_VERSION_CODE. Here the
conditions are decided, the names replaced by what they stand for, statements
that became too long for a line are broken, and static functions that are not
needed any more are dropped. compat.h itself has no place in the result: its
includes go to the file that includes it, its functions to the file that calls
them.
"""

import re

CONDITION = re.compile(r"#(?:el)?if LINUX_VERSION_CODE (<|>=) "
                       r"KERNEL_VERSION\((\d+), (\d+), (\d+)\)$")
WORD = re.compile(r"[A-Za-z_]\w*")
WIDTH = 80


class Unresolved(Exception):
    """A form that this does not know: where and what."""


def conditions(name, text, version, defines):
    """Decide #if LINUX_VERSION_CODE, and #ifdef NAME where defines(NAME) tells.
    Other conditions stay: it returns None."""
    out = []
    stack = []          # [ours, taken before, taken now]
    for number, line in enumerate(text.splitlines(), 1):
        word = re.match(r"#(ifndef|ifdef|if|elif|else|endif)\b", line)
        if not word:
            if all(now for _, _, now in stack):
                out.append(line)
            continue
        word = word[1]
        known = CONDITION.match(line)
        if known:
            given = tuple(int(n) for n in known.groups()[1:])
            holds = version < given if known[1] == "<" else version >= given
        elif "LINUX_VERSION_CODE" in line:
            raise Unresolved(f"{name}:{number}: {line}")
        elif word in ("ifdef", "ifndef"):
            holds = defines(line.split()[1])
            known = holds is not None
            holds = bool(holds) == (word == "ifdef")
        if word in ("if", "ifdef", "ifndef"):
            stack.append([known, known and holds, not known or holds])
        elif word == "elif" and known:
            stack[-1][2] = holds and not stack[-1][1]
            stack[-1][1] |= holds
        elif word == "else" and stack[-1][0]:
            stack[-1][2] = not stack[-1][1]
        ours = stack[-1][0]
        if word == "endif":
            stack.pop()
        if not ours and all(now for _, _, now in stack):
            out.append(line)
    text = "\n".join(out) + "\n"
    return re.sub(r"\n{3,}", "\n\n", text)


def functions(text, start="static "):
    """Name and text of each function definition that begins so, with the comment
    above."""
    pattern = re.compile(
        r"^(?:/\*(?:(?!\*/).)*\*/\n)?(" + start +
        r"[^\n;={]*(?:\n(?:\t|\w+\()[^\n;={]*)*)\n\{\n.*?^\}\n", re.M | re.S)
    for match in pattern.finditer(text):
        name = re.search(r"(\w+)\(", match[1])
        if name:
            yield name[1], match[0]


class Compat:
    """What compat.h comes to for one kernel."""

    def __init__(self, text):
        text = re.sub(r"\A.*?#define _NVME_NG_COMPAT_H\n", "", text, flags=re.S)
        text = text[:text.rindex("#endif")]
        self.includes = [i for i in re.findall(r"^#include (\S+)$", text, re.M)
                         if i != "<linux/version.h>"]
        self.functions = dict(functions(text))
        self.macros = {}
        for line in text.replace("\\\n", " ").splitlines():
            match = re.match(r"#define (\w+)(?:\(([^)]*)\))?\s+(.*)$", line)
            if match:
                params = match[2] and re.split(r",\s*", match[2])
                body = " ".join(match[3].split())
                self.macros[match[1]] = (params, body)


def close(text, at):
    """Where the parenthesis opened at that place ends."""
    depth = 0
    for i in range(at, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if not depth:
            return i
    raise Unresolved(f"no end of: {text[at:at + 60]}")


def split(text):
    """Arguments between commas."""
    args, depth = [""], 0
    for c in text:
        depth += {"(": 1, ")": -1}.get(c, 0)
        if c == "," and not depth:
            args.append("")
        else:
            args[-1] += c
    return [a.strip() for a in args]


def substitute(body, params, args):
    """A macro's body with its arguments, without parentheses that they do
    not need."""
    for param, arg in zip(params, args):
        # evaluated only for the sake of the compiler
        body = re.sub(r"\(void\)\(%s\), " % param, "", body)
        if re.fullmatch(r"[\w.>-]+(\([^()]*\))?", arg):
            body = re.sub(r"(?<!\w)\(%s\)" % param, param, body)
        body = re.sub(r"\b%s\b" % param, lambda _: arg, body)
    return body


def bare(body, before, after):
    """Drop the parentheses around a macro's body where the place allows."""
    if not body.startswith("(") or close(body, 0) != len(body) - 1:
        return body
    inside = body[1:-1]
    if " " not in inside:
        return inside
    if not re.search(r"\|\||\?|,(?![^()]*\))", inside) and \
       re.search(r"(&& |\(|= |return )$", before) and \
       re.match(r"\)| &&|;", after):
        return inside
    return body


def expand(text, macros):
    """Replace the names of compat.h in a piece of code without comments."""
    at = 0
    while True:
        match = re.compile(r'"(?:\\.|[^"\\])*"|' + WORD.pattern).search(text, at)
        if not match:
            return text
        word, at = match[0], match.end()
        if word not in macros:
            continue
        params, body = macros[word]
        end = at
        if params:
            if text[at:at + 1] != "(":
                continue
            end = close(text, at) + 1
            args = split(text[at + 1:end - 1])
            if params[-1] == "...":
                params = params[:-1]
                rest = ", ".join(args[len(params):])
                args = args[:len(params)]
                body = re.sub(r"(, )?##__VA_ARGS__",
                              lambda m: (m[1] or "") + rest if rest else "", body)
            if len(args) != len(params):
                raise Unresolved(f"wrong number of arguments: {text}")
            body = substitute(body, params, args)
        inner = {k: v for k, v in macros.items() if k != word}
        body = bare(expand(body, inner), text[:match.start()], text[end:])
        text = text[:match.start()] + body + text[end:]
        at = match.start() + len(body)


def column(text):
    return len(text.expandtabs(8))


def opened(line, before=()):
    """Columns of the parentheses that are open at the end of a line."""
    columns = list(before)
    for i, c in enumerate(line):
        if c == "(":
            columns.append(column(line[:i + 1]))
        elif c == ")":
            columns.pop()
    return columns


def fill(line, before=()):
    """Break a statement that does not fit a line, at the last place that does,
    and align what follows to the parenthesis that it is in."""
    if column(line) <= WIDTH:
        return [line]
    indent = re.match(r"\t*", line)[0]
    for match in reversed(list(re.finditer(r"(?:,|&&|\|\||\||\?| =)( )", line))):
        first = line[:match.start(1)]
        if column(first) > WIDTH:
            continue
        columns = opened(first, before)
        to = columns[-1] if columns else column(indent) + 8
        rest = fill("\t" * (to // 8) + " " * (to % 8) + line[match.end():],
                    columns)
        if rest:
            return [first, *rest]
    return None


def statements(lines):
    """Ranges of lines that are one statement, or one line of anything else."""
    at = 0
    comment = False
    while at < len(lines):
        end = at + 1
        line = lines[at].strip()
        if comment or line.startswith("/*"):
            comment = "*/" not in line
        elif line.startswith("#"):
            while lines[end - 1].endswith("\\"):
                end += 1
        elif line:
            while end < len(lines) and not complete(" ".join(lines[at:end])):
                end += 1
        yield at, end
        at = end


def complete(code):
    code = re.sub(r"/\*.*?\*/", "", code).strip()
    if code.count("(") != code.count(")"):
        return False
    return (not re.search(r"(=|&&|\|\||\||\?|\+|\*|,|\bstatic|\bconst)$", code)
            or not re.search(r"[({]", code) and code.endswith(","))


def comments_dropped(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def uses(text, names):
    return [w for w in WORD.findall(comments_dropped(text)) if w in names]


def join(lines):
    joined = lines[0]
    for line in lines[1:]:
        joined += ("" if joined.endswith("(") else " ") + line.strip()
    return joined


def in_place(part, macros, whole):
    """A statement with the lines that it had, or None if they do not do."""
    try:
        new = [expand(line, macros) for line in part]
    except Unresolved:
        return None         # a macro and its arguments are on two lines
    if column(whole) <= WIDTH or join(new) != whole:
        return None
    before = after = ()
    for old, line in zip(part, new):
        before, after = opened(old, before), opened(line, after)
        if column(line) > WIDTH or before != after:
            return None
    return new


def replace(text, macros):
    lines = text.splitlines()
    out = []
    for at, end in statements(lines):
        part = lines[at:end]
        if part[0].startswith("#") or not uses("\n".join(part), macros):
            out += part
            continue
        if any("/*" in line for line in part):
            raise Unresolved(f"a comment beside: {part[0].strip()}")
        whole = expand(join(part), macros)
        new = in_place(part, macros, whole) or fill(whole)
        if not new:
            raise Unresolved(f"cannot be broken: {whole.strip()}")
        out += new
    return "\n".join(out) + "\n"


def move_functions(text, compat):
    """Put functions of compat.h before the function that calls them first."""
    for name, body in compat.functions.items():
        if name not in uses(text, compat.functions):
            continue
        for _, whole in functions(text, r"\w"):
            if name in uses(whole, compat.functions):
                body = body.replace("static inline ", "static ", 1)
                text = text.replace(whole, realign(body) + "\n" + whole)
                break
        else:
            raise Unresolved(f"{name}: no function calls it")
    return text


def realign(body):
    """The head of a function after its first line became shorter."""
    head, rest = body.split("\n{\n", 1)
    start = head.rfind("*/\n") + 3 if "*/\n" in head else 0
    # the parameters are aligned to a line of their own
    if "(" not in head[start:].splitlines()[0]:
        return body
    head = head[:start] + "\n".join(fill(" ".join(head[start:].split())))
    return head + "\n{\n" + rest


def drop_unused(text, before):
    """Drop static functions that only this kernel does not call."""
    for name, whole in functions(text):
        if uses(text, [name]).count(name) == 1 and \
           uses(before, [name]).count(name) > 1:
            text = text.replace(whole + "\n", "")
    return text


def sort_includes(text, compat):
    """The includes of compat.h in its place, those of the kernel sorted."""
    match = re.search(r'(?:^#include \S+\n)*^#include "compat.h"\n(?:#include \S+\n)*',
                      text, re.M)
    if not match:
        return text
    names = re.findall(r"#include (\S+)", match[0])
    at = names.index('"compat.h"')
    names[at:at + 1] = compat.includes
    system = sorted(set(n for n in names if n[0] == "<"))
    local = [n for n in names if n[0] == '"']
    return text.replace(match[0], "".join(f"#include {n}\n"
                                          for n in system + local))


def resolve(name, text, version, compat, defines):
    text = conditions(name, text, version, defines)
    text = sort_includes(text, compat)
    new = move_functions(text, compat)
    new = replace(new, compat.macros)
    if name.endswith(".c"):
        new = drop_unused(new, text)
    left = uses(new, ["LINUX_VERSION_CODE", "KERNEL_VERSION", *compat.macros])
    left = [w for w in left if w not in compat.macros or
            w not in compat.macros[w][1]]
    if left:
        raise Unresolved(f"{name}: {left[0]} is left")
    return new
