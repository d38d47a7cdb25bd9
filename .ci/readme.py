"""README.md from nbs/index.ipynb, without Quarto.

    python .ci/readme.py           writes README.md
    python .ci/readme.py --check   exits 1 if README.md is not what it would write
"""
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent
DIRECTIVE = re.compile(r"^#\|.*\n?", re.M)
LINK = re.compile(r"\]\(((?:[\w-]+/)*[\w-]+\.ipynb(?:#[^)\s]*)?)\)")  # to a notebook, in a folder or not


def prepared(nb):
    "The notebook as a reader should see it: no hidden cells, no directives, no raw cells."
    nb.metadata["language_info"] = {"name": "python"}  # nbdev_clean removes it; code fences need it
    nb.cells = [c for c in nb.cells if c.cell_type != "raw" and "#| hide" not in c.source]
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.source = "" if "#| echo: false" in cell.source else DIRECTIVE.sub("", cell.source)
    return nb


def readme():
    "The text of README.md."
    nb = prepared(nbformat.read(ROOT / "nbs" / "index.ipynb", as_version=4))
    shown = ["text/markdown", "text/plain"]
    exporter = MarkdownExporter(config=Config(NbConvertBase={"display_data_priority": shown}))
    text, _ = exporter.from_notebook_node(nb)
    text = re.sub(r"```python\n\s*```\n", "", text)
    text = re.sub(r"^> (.+)$", r"*\1*", text, count=1, flags=re.M)  # the subtitle
    text = LINK.sub(r"](nbs/\1)", text)  # README stands one folder higher
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    return "<!-- made from nbs/index.ipynb by .ci/readme.py; edit the notebook -->\n\n" + text


def lost(text):
    "Relative links of README.md that lead nowhere."
    links = (m[1].partition("#")[0] for m in re.finditer(r"\]\(([^)\s]+)\)", text))
    return sorted({link for link in links if link and not re.match(r"[a-z]+:", link) and not (ROOT / link).exists()})


def main():
    "Writes or checks README.md."
    path, text = ROOT / "README.md", readme()
    if gone := lost(text):
        sys.exit(f"README.md would link to {', '.join(gone)}, which does not exist; mend the links of nbs/index.ipynb")
    if "--check" not in sys.argv:
        path.write_text(text, encoding="utf-8")
    elif not path.exists() or path.read_text(encoding="utf-8") != text:
        sys.exit("README.md is not what nbs/index.ipynb says; run: python .ci/readme.py")


if __name__ == "__main__":
    main()
