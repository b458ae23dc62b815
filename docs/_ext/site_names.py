"""The role of a single backtick: a link if it names something of the reference, else plain code."""

from __future__ import annotations

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import PyXRefRole
from sphinx.environment import BuildEnvironment
from sphinx.util.typing import ExtensionMetadata


class Named(PyXRefRole):
    """As ``:py:obj:``, and no mistake where there is nothing to link to."""

    def __call__(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        found, messages = super().__call__(*args, **kwargs)
        for node in found:
            if isinstance(node, pending_xref):
                node["refdomain"], node["reftype"], node["optional"] = "py", "obj", True
        return found, messages


def plain(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.TextElement | None:
    return content if node.get("optional") else None


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_role("named", Named())
    app.connect("missing-reference", plain)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
