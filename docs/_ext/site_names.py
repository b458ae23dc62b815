"""Names in docstrings and signatures: a link if the reference has them, else plain code."""

from __future__ import annotations

from typing import cast

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain, PyXRefRole
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxRole
from sphinx.util.nodes import make_refnode
from sphinx.util.typing import ExtensionMetadata


class Named(PyXRefRole):
    """The role of a single backtick: as ``:py:obj:``, but the name may be unknown."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        self.name = "py:obj"
        found, messages = super().run()
        for node in found:
            if isinstance(node, pending_xref):
                node["is_optional"] = True
        return found, messages


def public_name(domain: PythonDomain, target: str) -> str | None:
    """Where users import from what is written, or was made, elsewhere."""
    name = target.rpartition(".")[2]
    known = [one for one in domain.objects if one.startswith("spry_py.")]
    same = [one for one in known if one.rpartition(".")[2] == name]
    return min(same, key=lambda one: one.count("."), default=None)


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | nodes.TextElement | None:
    if node.get("refdomain") != "py":
        return None
    domain = cast("PythonDomain", env.get_domain("py"))
    target = node["reftarget"]
    if target.startswith("spry_py.") and node.get("reftype") == "class":
        found = public_name(domain, target)
        if found is not None:
            entry = domain.objects[found]
            place = node.get("refdoc", entry.docname)
            return make_refnode(app.builder, place, entry.docname, entry.node_id, content, found)
    return content if node.get("is_optional") else None


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_role("named", cast("SphinxRole", Named()))
    app.connect("missing-reference", resolve)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
