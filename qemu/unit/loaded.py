# SPDX-License-Identifier: GPL-2.0
"""Scripts without .py as modules."""

import importlib.machinery
import importlib.util
import os
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def script(path):
    """The script TOP/PATH, which finds what is beside it."""
    directory, name = os.path.split(f"{TOP}/{path}")
    if directory not in sys.path:
        sys.path.insert(0, directory)
    module_name = name.split(".", maxsplit=1)[0]
    loader = importlib.machinery.SourceFileLoader(module_name, f"{directory}/{name}")
    spec = importlib.util.spec_from_loader(module_name, loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
