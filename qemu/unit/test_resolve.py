# SPDX-License-Identifier: GPL-2.0
"""How a source of the module form becomes that of one kernel."""

import unittest

import loaded

resolve = loaded.script("patches/resolve.py")

COMPAT = """\
#ifndef _NVME_NG_COMPAT_H
#define _NVME_NG_COMPAT_H
#include <linux/version.h>
#include <linux/slab.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#define ng_flags(cmd)	((cmd)->old_flags)
#define ng_call(a, b)	old_call(a, (b) + 1)
#define ng_log(dev, ...) dev_info(dev, ##__VA_ARGS__)
#elif LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0)
#define ng_flags(cmd)	((cmd)->flags)
#define ng_call(a, b)	call(b)
#else
#define ng_flags(cmd)	flags_of(cmd)
#define ng_call(a, b)	a_call_of_a_name_that_is_long_indeed(a, b)
#endif

/* helps */
static inline int ng_help(int a)
{
	return a;
}

static inline struct ng_thing *
ng_make(int (*one)(int a),
	int (*other)(int a))
{
	return NULL;
}

#endif /* _NVME_NG_COMPAT_H */
"""
VERSIONS = {"6.1": (6, 1, 0), "6.12": (6, 12, 0), "7.3": (7, 3, 0)}


def compat(base):
    return resolve.Compat(resolve.conditions(
        "compat.h", COMPAT, VERSIONS[base],
        lambda name: None if name.startswith("_NVME") else False))


def resolved(base, text):
    return resolve.resolve("x.c", text, VERSIONS[base], compat(base), lambda _: None)


class Conditions(unittest.TestCase):
    TEXT = ("a\n#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)\nnew\n"
            "#ifdef CONFIG_X\nx\n#else\ny\n#endif\n#else\nold\n#endif\nz\n")

    def decide(self, version, defines=lambda _: None):
        return resolve.conditions("x.c", self.TEXT, version, defines)

    def test_versions(self):
        self.assertEqual(self.decide((6, 1, 0)), "a\nold\nz\n")
        self.assertEqual(self.decide((6, 12, 0)),
                         "a\nnew\n#ifdef CONFIG_X\nx\n#else\ny\n#endif\nz\n")

    def test_defined(self):
        self.assertEqual(self.decide((7, 3, 0), lambda _: True), "a\nnew\nx\nz\n")
        self.assertEqual(self.decide((7, 3, 0), lambda _: False), "a\nnew\ny\nz\n")

    def test_unknown_form(self):
        with self.assertRaises(resolve.Unresolved):
            resolve.conditions("x.c", "#if LINUX_VERSION_CODE > 1\n#endif\n",
                               (7, 3, 0), lambda _: None)


class Names(unittest.TestCase):
    def test_macro(self):
        text = "int f(void)\n{\n\treturn ng_flags(cmd) & 1;\n}\n"
        for base, word in (("6.1", "cmd->old_flags"), ("6.12", "cmd->flags"),
                           ("7.3", "flags_of(cmd)")):
            self.assertIn(f"return {word} & 1;", resolved(base, text))

    def test_arguments(self):
        text = "void f(void)\n{\n\tng_call(g(1, 2), b);\n}\n"
        self.assertIn("\told_call(g(1, 2), b + 1);\n", resolved("6.1", text))
        self.assertIn("\tcall(b);\n", resolved("6.12", text))

    def test_variadic(self):
        text = 'void f(void)\n{\n\tng_log(d, "%d", 1);\n\tng_log(d);\n}\n'
        self.assertIn('\tdev_info(d, "%d", 1);\n\tdev_info(d);\n',
                      resolved("6.1", text))

    def test_in_strings_and_comments(self):
        text = "/* ng_flags(x) */\nint i;\n"
        self.assertEqual(resolved("6.1", text), text)
        with self.assertRaises(resolve.Unresolved):
            resolved("6.1", 'char *s = "ng_flags(x)";\n')

    def test_long_line_is_broken(self):
        text = ("void f(void)\n{\n\tif (x)\n\t\treturn ng_call(some_argument_of_it, "
                "and_another_one);\n}\n")
        for line in resolved("7.3", text).splitlines():
            self.assertLessEqual(resolve.column(line), resolve.WIDTH, line)

    def test_what_cannot_be_broken_is_said(self):
        text = f"void f(void)\n{{\n\tng_call({'a' * 60}, b);\n}}\n"
        with self.assertRaises(resolve.Unresolved):
            resolved("7.3", text)


class Functions(unittest.TestCase):
    USER = ('#include <linux/fs.h>\n#include "compat.h"\n\n'
            "static int f(void)\n{\n\treturn ng_help(1);\n}\n")

    def test_comes_before_its_caller(self):
        text = resolved("7.3", self.USER)
        self.assertIn("/* helps */\nstatic int ng_help(int a)\n{\n\treturn a;\n}\n\n"
                      "static int f(void)", text)

    def test_type_on_a_line_of_its_own(self):
        text = resolved("7.3", self.USER.replace("ng_help(1)", "!ng_make(a, b)"))
        self.assertIn("static struct ng_thing *\nng_make(int (*one)(int a),\n"
                      "\tint (*other)(int a))\n{\n\treturn NULL;\n}\n\n"
                      "static int f(void)", text)

    def test_includes(self):
        text = resolved("7.3", self.USER)
        self.assertTrue(text.startswith(
            "#include <linux/fs.h>\n#include <linux/slab.h>\n\n"), text)

    def test_unused_is_dropped(self):
        text = ("static int g(void)\n{\n\treturn 1;\n}\n\n"
                "static int f(void)\n{\n"
                "#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)\n"
                "\treturn g();\n#else\n\treturn 0;\n#endif\n}\n")
        self.assertIn("static int g", resolved("6.1", text))
        # where no condition drops the call, an unused function stays
        self.assertIn("static int g", resolve.drop_unused(text, text))


class Breaking(unittest.TestCase):
    def test_fits(self):
        self.assertEqual(resolve.fill("\tf(a);"), ["\tf(a);"])

    def test_aligned_to_the_parenthesis(self):
        line = "\tlonger_name(" + ", ".join(["argument"] * 10) + ");"
        first, *rest = resolve.fill(line)
        self.assertLessEqual(resolve.column(first), resolve.WIDTH)
        for other in rest:
            self.assertEqual(resolve.column(other) -
                             len(other.strip()), resolve.column("\tlonger_name("))

    def test_statements(self):
        lines = ["/* a", " * b */", "f(a,", "  b);", "#define X \\", "\t1", "g();"]
        self.assertEqual([lines[a:b] for a, b in resolve.statements(lines)],
                         [["/* a"], [" * b */"], ["f(a,", "  b);"],
                          ["#define X \\", "\t1"], ["g();"]])


if __name__ == "__main__":
    unittest.main()
