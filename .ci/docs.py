"""The documentation site without Quarto: nbdev stages the pages, smalldocs renders them.

    python .ci/docs.py [FOLDER]    builds into FOLDER (default _docs) and checks what it built

`nbdev_docs` builds the same project with Quarto. What is done here beyond rendering: formulas
become MathML, which browsers show without a script or a network; pages take nbdev's short names;
links to our own site become relative; and no page may need anything that is not in the folder.
"""
import ast
import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbdev.doclinks
import nbdev.serve
from latex2mathml.converter import convert
from nbdev.config import get_config
from nbdev.process import Processor
from nbdev.processors import FilterDefaults
from nbdev.quarto import refresh_quarto_yml
from nbdev.serve import proc_nbs

MATH = re.compile(r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>', re.S)
CDN_TAG = re.compile(r'\s*<(?:link|script)\b[^>]*//cdn\.jsdelivr\.net/npm/katex[^>]*>(?:</script>)?')
CODE = re.compile(r"<(pre|code)\b.*?</\1>", re.S)
CODE_LINK = re.compile(r"\[`([\w.]+)`\]\(https://pgolf-lab[^)]*\)")  # nbdev's, where Markdown is not read
SOURCE = re.compile(r'<p><a href="https://[^"]*/blob/[^"]*"[^>]*>source</a></p>\n?')  # the code is on the page itself
KATEX_CALL = re.compile(r"<script>[^<]*renderMathInElement[^<]*</script>")


CHAPTERS = {  # title: how file names begin; the longest beginning counts, "" is any other notebook
    "Guides": ("15", "12a"), "Run and compare": ("", "14c"), "Settings and plots": ("00",),
    "Data": ("00b_p", "00b_text", "00c", "00d", "00e_l", "00e_s", "00f_t", "01"),
    "Device, ranks, kernels": ("00f_d", "00f_f", "00f_o", "00g", "00h", "01a", "01b", "01c", "01d"), "Network": ("02",), "Optimiser": ("03",),
    "Quantisation": ("04",), "Artifact": ("05",), "n-grams": ("06",), "Mixtures": ("07",), "Scoring": ("08",),
    "Test-time training": ("09",), "Audit and loss": ("10",), "Training": ("11",), "Ranks and pods": ("12",), "Runs": ("13",),
    "Command line": ("14",)}


def sidebar(folder):
    "sidebar.yml: the notebooks by chapter, guides first. Written only if it changes."
    begins = {begin: title for title, some in CHAPTERS.items() for begin in some}
    chapters = {title: [] for title in CHAPTERS}
    for path in sorted(folder.glob("*.ipynb")):
        if not path.name.startswith(("_", ".")) and path.name != "index.ipynb":
            chapters[begins[max(filter(path.name.startswith, begins), key=len)]].append(path.name)
    lines = ["website:", "  sidebar:", "    contents:", "      - index.ipynb"]
    for title, names in chapters.items():
        lines += [f"      - section: \"{title}\"", "        contents:"]
        lines += [f"          - {name}" for name in names]
    text = "\n".join(lines) + "\n"
    if (folder / "sidebar.yml").read_text(encoding="utf-8") != text:
        (folder / "sidebar.yml").write_text(text, encoding="utf-8")


def unhide(cell):
    "An exported cell stays on its page, unless it only imports: as nbdev's `exports`, which follows its documentation."
    exported = cell.cell_type == "code" and "export" in cell.directives_
    if exported and not all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(cell.source).body):
        cell.directives_["exports"] = cell.directives_.pop("export")


def fold(cell):
    "Closed until the reader opens it."
    if cell.cell_type == "code" and "exports" in cell.directives_:
        cell.source = f'#| code-fold: true\n#| code-summary: "code"\n{cell.source}'


class below(Processor):  # noqa: N801, named as nbdev names its own
    "The code of an exported cell stands below the documentation of what it defines, which comes in the code's order."
    def begin(self):
        out, code, docs = [], [], []
        for cell in self.nb.cells:
            if getattr(cell, "has_sd", False):
                docs.insert(0, cell)  # nbdev puts each before the one that it put there last
                continue
            out, code, docs = [*out, *docs, *code], [], []
            if cell.cell_type == "code" and "exports" in cell.directives_:
                code = [cell]
            else:
                out.append(cell)
        self.nb.cells[:] = [*out, *docs, *code]


class Pages(FilterDefaults):
    "nbdev's processors, with the exported code in the pages, folded."
    def base_procs(self):
        own = {"add_fold": fold, "mv_exports": below}
        return [unhide, *(own.get(p.__name__, p) for p in super().base_procs())]


def stage():
    "What `nbdev_docs` does before it calls Quarto: _proc with the notebooks as pages."
    nbdev.serve.FilterDefaults = Pages
    refresh_quarto_yml()
    nbdev.doclinks._build_modidx()
    sidebar(get_config().nbs_path)  # settings.ini has custom_sidebar: nbdev leaves it alone
    return proc_nbs(n_workers=0, force=True)


def render(cache):
    "The site as smalldocs makes it. Exits with its words if a link between pages is broken."
    done = subprocess.run([sys.executable, "-m", "smalldocs.cli", "render", str(cache)],
                          capture_output=True, text=True)
    said = done.stdout + done.stderr
    broken = [line for line in said.splitlines() if "broken link" in line]
    if done.returncode or broken:
        sys.exit("\n".join(broken) or said)
    return cache / get_config().doc_path.name


def mathml(match):
    "One formula as MathML; the source stays with it for copying and for readers aloud."
    kind, tex = match[1], html.unescape(match[2]).strip()
    made = convert(tex, display="block" if kind == "display" else "inline")
    if lost := re.findall(r"<m[a-z]+[^>]*>(\\[A-Za-z]+)<", made):
        sys.exit(f"formula {tex!r}: {lost[0]} is not understood; use another command")
    return made.replace("<math ", f'<math alttext="{html.escape(tex)}" ', 1)


def short_names(site):
    "00a_plots.html -> plots.html, as nbdev's own links have it."
    names = {p.name: re.sub(r"^\d+[a-zA-Z0-9]*_", "", p.name) for p in site.glob("*.html")}
    if len(set(names.values())) < len(names):
        short = list(names.values())
        twice = sorted(n for n, s in names.items() if short.count(s) > 1)
        sys.exit(f"notebooks share a name after their number: {', '.join(twice)}; rename one of each")
    return names


def finish(site):
    "Local formulas, short names and relative links, in every page and in the search index."
    names, cfg = short_names(site), get_config()
    ours = f"{cfg.doc_host}{cfg.doc_baseurl}".rstrip("/") + "/"
    old = re.compile("|".join(rf"(?<![\w/]){re.escape(n)}" for n in names))
    for page in [*site.glob("*.html"), site / "search.json"]:
        text = page.read_text(encoding="utf-8").replace(f'href="{ours}', 'href="nbdev:')
        if page.suffix == ".html":
            text = re.sub(r'href="([\w-]+)\.ipynb(#[^"]*)?"', r'href="\1.html\2"', text)  # of HTML outputs
            text = KATEX_CALL.sub("", CDN_TAG.sub("", MATH.sub(mathml, SOURCE.sub("", text))))
            text = CODE.sub(lambda m: CODE_LINK.sub(r"\1", m[0]), text)
        else:  # words alone
            text = CODE_LINK.sub(r"\1", text)
        page.write_text(old.sub(lambda m: names[m[0]], text), encoding="utf-8")
    for long, short in names.items():
        (site / long).rename(site / short)
    resolve(site)


def resolve(site):
    "nbdev links every name of the package; what has no entry of its own links to its page."
    ids = {p.name: Page(p).ids for p in site.glob("*.html")}

    def link(match):
        page, _, anchor = match[1].partition("#")
        return f'href="{page}#{anchor}"' if anchor in ids.get(page, ()) else f'href="{page}"'

    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r'href="nbdev:([^"]*)"', link, text), encoding="utf-8")


class Page(HTMLParser):
    "Collects the ids, links and embedded resources of a page."
    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.needs = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.ids |= {a[k] for k in ("id", "name") if a.get(k)}
        if tag == "a" and a.get("href"):
            self.links.append(a["href"])
        rel = a.get("rel") or ""
        if tag == "link" and "canonical" not in rel and a.get("href"):
            self.needs.append(a["href"])
        if tag in ("script", "img", "iframe", "source") and a.get("src"):
            self.needs.append(a["src"])


def problems(site):
    "Broken links and anchors, resources from elsewhere, formulas left as source."
    pages = {p.name: Page(p) for p in site.glob("*.html")}
    for name, page in pages.items():
        yield from (f"{name} needs {n[:80]} from the network" for n in page.needs
                    if re.match(r"(https?:)?//", n))
        for link in page.links + page.needs:
            if re.match(r"[a-z]+:|//", link):
                continue
            path, _, anchor = link.partition("#")
            target = (unquote(path.split("?")[0]) or name).removeprefix("./") or "index.html"
            if not (site / target).exists():
                yield f"{name} links to {link}, which does not exist"
            elif target in pages and anchor and unquote(anchor) not in pages[target].ids:
                yield f"{name} links to {link}: no such place on that page"
        text = (site / name).read_text(encoding="utf-8")
        if 'class="math' in text:
            yield f"{name} holds a formula that was not converted"
        if any(CODE_LINK.search(m[0]) for m in CODE.finditer(text)):
            yield f"{name} shows the source of a link in its code"
    found = {e["href"].split("#")[0] for e in json.loads((site / "search.json").read_text("utf-8"))}
    yield from (f"{n} is not in the search index" for n in set(pages) - found)


def main():
    "Builds, moves and checks the site."
    out = Path(sys.argv[1] if len(sys.argv) > 1 else get_config().doc_path).resolve()
    site = render(stage())
    finish(site)
    if bad := list(problems(site)):
        sys.exit("\n".join(bad))
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(site, out)
    pages = list(out.glob("*.html"))
    formulas = sum(p.read_text(encoding="utf-8").count("<math ") for p in pages)
    figures = sum(p.read_text(encoding="utf-8").count("<img") for p in pages)
    print(f"{len(pages)} pages, {formulas} formulas, {figures} figures in {out}")


if __name__ == "__main__":
    main()
