"""The site: Sphinx with MyST and the theme furo. `make docs` builds it, strictly and without a network."""

from __future__ import annotations

import os
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

project = "executor-bench"
html_title = "executor-bench"
extensions = ["myst_parser"]
html_theme = "furo"
html_use_index = False  # it would be empty
html_copy_source = False
myst_heading_anchors = 4  # the levels of headings that links may lead to


class LinkToFile(SphinxTransform):
    """Lets links lead out of docs/: to copies of files, as GitHub shows every file and the site does not.

    MyST offers a linked file as a download itself, except for folders and for Markdown outside of docs/. A
    link to a folder leads to its first page or text; without one, its files are listed after the link.
    """

    default_priority = 1  # before Sphinx copies the files that are linked
    FIRST = ("index.md", "README.md", "__init__.py", "report.txt")
    MOST_LISTED = 12

    def apply(self) -> None:
        for node in list(self.document.findall(addnodes.pending_xref)):
            if node["reftype"] == "myst" and (place := self._place(node)):
                self._replace(node, place)

    def _place(self, node: addnodes.pending_xref) -> Path | None:
        """The folder, or the file outside of docs/, that a link means."""
        if node["refdomain"] == "doc":  # the name of a page; an absolute path if it is outside of docs/
            path = Path(f"{node['reftarget']}.md")
            return path if path.is_absolute() and path.is_file() else None
        folder = self._here / node["reftarget"]
        return folder if folder.is_dir() else None

    def _replace(self, node: addnodes.pending_xref, place: Path) -> None:
        names = (place / name for name in self.FIRST) if place.is_dir() else [place]
        first = next((file for file in names if file.is_file()), None)
        page = self.env.path2doc(first.resolve()) if first else None
        if first is None:
            self._list(node, place)
        elif page and not Path(page).is_absolute():
            node.attributes |= {"refdomain": "doc", "reftarget": page, "reftargetid": None}
        else:
            node.replace_self(self._copy(first, *node.children))

    def _list(self, node: addnodes.pending_xref, folder: Path) -> None:
        files = sorted(file for file in folder.iterdir() if file.is_file())
        if 0 < len(files) <= self.MOST_LISTED:  # else MyST warns that the link leads nowhere
            copies = [self._copy(file, nodes.literal("", file.name)) for file in files]
            commas = [nodes.Text(", ") for _ in copies[1:]] + [nodes.Text(")")]
            listed = [one for pair in zip(copies, commas, strict=True) for one in pair]
            node.replace_self([*node.children, nodes.Text(" ("), *listed])

    def _copy(self, file: Path, *shown: nodes.Node) -> addnodes.download_reference:
        path = os.path.relpath(file, self._here)
        return addnodes.download_reference(
            "", "", *shown, refdoc=self.env.docname, reftype="myst", reftarget=path
        )

    @property
    def _here(self) -> Path:
        return Path(self.env.doc2path(self.env.docname)).parent


def setup(app: Sphinx) -> None:
    """Sphinx calls this once."""
    app.add_transform(LinkToFile)
