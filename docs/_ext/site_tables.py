"""The directive ``made``: a table of the reference, by `made`."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from made import TABLES, markdown


class Made(SphinxDirective):
    """``{made} options Child``: the name of a table, and what it is about."""

    required_arguments = 1
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        name, *about = self.arguments
        # it is of the code, which Sphinx does not watch
        self.env.note_reread()
        return self.parse_text_to_nodes(markdown(TABLES[name](*about)))


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_directive("made", Made)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
