"""How Sphinx makes the site out of docs/: `sphinx-build -W --keep-going -n docs build/site`."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

DOCS = Path(__file__).resolve().parent
# What tables and pictures are made with; spry_py itself is the one that is installed.
sys.path.insert(0, str(DOCS / "_ext"))

project = "spry_py"
author = "spry_py contributors"
copyright = "spry_py contributors"  # noqa: A001
version = release = version_of("spry-py")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinxcontrib.mermaid",
    "site_links",
    "site_names",
    "site_pictures",
    "site_tables",
]
source_suffix = {".md": "markdown"}
# Built from inside docs/ as well: what is made is no source.
exclude_patterns = ["_build", "**/.*"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist"]
# Headings can be linked to down to this level, named as on a code host.
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]

html_theme = "furo"
html_title = f"spry_py {version}"
html_show_sourcelink = False

# A single backtick in a docstring: a link if it names something of ours, else plain code.
default_role = "named"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
# Types of other projects are plain: to link to them would need their inventories, from the net.
# Of ours: what is private, variables of types, parts of packages that users see as one.
PRIVATE = (
    r"spry_py(\.\w+)*\.(_\w*(\.\w+)*|[A-Z](_co)?)|spry_py\.[a-z]+\.[a-z_]+\.\w+"
    r"|spry_py\.components\.ComponentStart"
)
nitpick_ignore_regex = [(r"py:.*", rf"(?!spry_py\.).*|{PRIVATE}")]
# A name that two modules have, such as SystemHandle and that of aio, leads to one of them.
suppress_warnings = ["ref.python"]
