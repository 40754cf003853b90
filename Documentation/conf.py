# SPDX-License-Identifier: GPL-2.0
"""Sphinx: 'make docs' builds HTML in build/docs/html."""

project = "nvme-ng"
# no git in the root that this runs in: the version of the changelog
with open("../debian/changelog", encoding="utf-8") as file:
    version = release = file.readline().split("(")[1].split(")")[0]
master_doc = "index"
extensions = []
exclude_patterns = ["ABI", "man"]
highlight_language = "none"
html_theme = "alabaster"
html_theme_options = {"page_width": "70em", "sidebar_width": "16em"}
html_copy_source = False
nitpicky = True
