"""The directive ``drawn``: a picture of a recorded run, by `drawn`."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from drawn import PICTURES


class Drawn(SphinxDirective):
    """``{drawn} stop``: the name of a picture; the content is its caption."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()
        figure = nodes.container(classes=["drawn"])
        figure += nodes.raw("", PICTURES[self.arguments[0]](), format="html")
        figure += self.parse_content_to_nodes()
        return [figure]


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_directive("drawn", Drawn)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
