"""The documentation site: `make docs` builds it in build/docs, without any network.

The pages are the documents of the repository where they are, so that a link works in both. What is
generated from the code is put in as a page is read (tools/reference.py).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from keywatch import __version__  # noqa: E402
from tools.reference import filled  # noqa: E402

project = "Keywatch"
author = "The Keywatch developers"
release = __version__

root_doc = "docs/index"
include_patterns = ["docs/*.md", "*.md", "detectors/README.md", "detectors/*/README.md",
                    "vendors/README.md"]  # fmt: skip
# A lake or an environment in the checkout is not searched; the README is part of the first page.
exclude_patterns = ["README.md", *(
    path.name for path in ROOT.iterdir()
    if path.is_dir() and path.name not in ("docs", "detectors", "vendors")
)]  # fmt: skip

extensions = ["myst_parser"]
myst_heading_anchors = 4
myst_enable_extensions = ["html_image"]
smartquotes = False
html_theme = "furo"
html_title = f"Keywatch {release}"
html_static_path = ["_static"]
html_css_files = ["keywatch.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_theme_options: dict[str, list[str]] = {"top_of_page_buttons": []}

_RELATIVE = re.compile(r"(\]\(|src=\")(?!https?:|#)")
_TO_FIRST = '<meta charset="utf-8"><meta http-equiv="refresh" content="0; url=docs/index.html">\n'


def _readme() -> str:
    """The README, with its links as they are from docs/."""
    return _RELATIVE.sub(r"\1../", (ROOT / "README.md").read_text(encoding="utf-8"))


def _fill(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = filled(source[0], {"readme": _readme})


def _lead_to_first_page(app: Sphinx, error: Exception | None) -> None:
    if error is None:
        (Path(app.outdir) / "index.html").write_text(_TO_FIRST, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Connect what fills the pages."""
    app.connect("source-read", _fill)
    app.connect("build-finished", _lead_to_first_page)
