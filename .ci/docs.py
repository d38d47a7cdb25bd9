"""The documentation site without Quarto: nbdev stages the pages, smalldocs renders them.

    python .ci/docs.py [FOLDER]    builds into FOLDER (default _docs) and checks what it built

`nbdev_docs` builds the same project with Quarto. What is done here beyond rendering: formulas
become MathML, which browsers show without a script or a network; pages take nbdev's short names;
links to our own site become relative; and no page may need anything that is not in the folder.
"""
import ast
import atexit
import html
import json
import posixpath
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote

import nbdev.doclinks
import nbdev.serve
from latex2mathml.converter import convert
from nbdev.config import get_config
from nbdev.process import Processor
from nbdev.processors import FilterDefaults, exec_show_docs
from nbdev.quarto import refresh_quarto_yml
from nbdev.serve import proc_nbs

MATH = re.compile(r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>', re.S)
CDN_TAG = re.compile(r'\s*<(?:link|script)\b[^>]*//cdn\.jsdelivr\.net/npm/katex[^>]*>(?:</script>)?')
CODE = re.compile(r"<(pre|code)\b.*?</\1>", re.S)
CODE_LINK = re.compile(r"\[`([\w.]+)`\]\(https://pgolf-lab[^)]*\)")  # nbdev's, where Markdown is not read
SOURCE = re.compile(r'<p><a href="https://[^"]*/blob/[^"]*"[^>]*>source</a></p>\n?')  # the code is on the page itself
KATEX_CALL = re.compile(r"<script>[^<]*renderMathInElement[^<]*</script>")


TAG = re.compile(r"<(?:a|link|img|script|source|iframe)\b[^>]*>")
ADDRESS = re.compile(r'(?<=\s)(href|src)="([^"]*)"')
NUMBER = re.compile(r"^\d+[a-zA-Z0-9]*_")  # as nbdev's own links leave it out of a page's name


def title(notebook):
    "The heading of a notebook's first cell."
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "".join(cells[0]["source"]).partition("\n")[0].lstrip("# ")


def chapters(folder):
    "Section title -> (notebook, text or None), guides first, then what one runs, then the chapters by their numbers."
    def inside(f):
        return sorted((p for p in f.glob("*.ipynb") if not p.name.startswith(("_", "."))),
                      key=lambda p: (not p.name.startswith("start"), p.name))

    rooms = sorted(p for p in folder.iterdir() if (p / "00_index.ipynb").is_file())
    found = {"Guides": inside(folder / "guides"),
             "Run and compare": [p for p in inside(folder) if p.name != "index.ipynb"]}
    for room in rooms:
        found[title(room / "00_index.ipynb")] = inside(room)
    if len(found) != 2 + len(rooms):
        sys.exit("two chapters have one title; the first heading of every 00_index.ipynb names its chapter")
    return found


def sidebar(folder):
    "sidebar.yml: the notebooks by chapter. Written only if it changes."
    lines = ["website:", "  sidebar:", "    contents:", "      - index.ipynb"]
    for section, pages in chapters(folder).items():
        lines += [f"      - section: {json.dumps(section, ensure_ascii=False)}", "        contents:"]
        for page in pages:
            where = page.relative_to(folder).as_posix()
            lines += (["          - text: Overview", f"            href: {where}"] if page.name == "00_index.ipynb"
                      else [f"          - {where}"])
    text = "\n".join(lines) + "\n"
    if (folder / "sidebar.yml").read_text(encoding="utf-8") != text:
        (folder / "sidebar.yml").write_text(text, encoding="utf-8")


def unhide(cell):
    "An exported cell stays on its page, unless it only imports: as nbdev's `exports`, which follows its documentation."
    exported = cell.cell_type == "code" and "export" in cell.directives_
    if exported and not all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(cell.source).body):
        cell.directives_["exports"] = cell.directives_.pop("export")


def fold(cell):
    "Closed until the reader opens it; a chapter's contract is open."
    if cell.cell_type == "code" and "exports" in cell.directives_ and not cell.source.startswith("__getattr__"):
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


class run_exported(exec_show_docs):  # noqa: N801
    "Runs what documentation needs, exported cells and no others: nbdev also runs every test cell that holds an import."
    def __call__(self, cell):
        if getattr(cell, "has_sd", False) or cell.directives_.keys() & {"export", "exports", "exporti"}:
            super().__call__(cell)

    def end(self):
        super().end()
        if hasattr(self, "k"):  # a shell collects garbage when Python exits: with one a page, most of a minute
            atexit.unregister(self.k.atexit_operations)


class Pages(FilterDefaults):
    "nbdev's processors, with the exported code in the pages, folded."
    def base_procs(self):
        own = {"add_fold": fold, "mv_exports": below, "exec_show_docs": run_exported}
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


def short(path):
    "05_model/03_attention.html -> model/attention.html, for a page or a file beside one; a chapter's first page is its index."
    *folders, name = path.split("/")
    folders = [NUMBER.sub("", f) for f in folders]
    return "/".join([*folders, NUMBER.sub("", name) if name.endswith(".html") else name])


def moved_href(href):
    "`short` of a place on a page."
    path, hash_, anchor = href.partition("#")
    return short(path) + hash_ + anchor


def short_names(site):
    "Old path -> new path of every page. Exits if two pages would share one."
    names = {old: short(old) for old in sorted(p.relative_to(site).as_posix() for p in site.rglob("*.html"))}
    count = Counter(names.values())
    if twice := [old for old, new in names.items() if count[new] > 1]:
        sys.exit(f"notebooks share a name after their number: {', '.join(twice)}; rename one of each")
    return names


class Move:
    "Rewrites the links of pages that change their names."
    def __init__(self, site):
        cfg = get_config()
        self.site, self.names = site, short_names(site)
        self.ours = f"{cfg.doc_host}{cfg.doc_baseurl}".rstrip("/") + "/"
        self.ids = {new: Page(site / old).ids for old, new in self.names.items()}

    def link(self, href, page):
        "A link as it stands on `page` (old path) -> as it must be on the page's new place."
        own = href.startswith(self.ours)  # nbdev's, to a name of the package: from the root
        path, _, anchor = href.removeprefix(self.ours).partition("#")
        if not path or (not own and re.match(r"[a-z]+:|//", href)):
            return href
        if not own:
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(path)))
        target = short(re.sub(r"\.ipynb$", ".html", path))  # notebooks in outputs of cells that are HTML
        if own and anchor not in self.ids.get(target, ()):
            anchor = ""  # what has no entry of its own links to its page
        new = posixpath.relpath(target, posixpath.dirname(self.names[page]) or ".")
        return quote(new) + (f"#{anchor}" if anchor else "")

    def html(self, text, page):
        "The links of a page."
        def address(m):
            return f'{m[1]}="{html.escape(self.link(html.unescape(m[2]), page))}"'
        return TAG.sub(lambda m: ADDRESS.sub(address, m[0]), text)


def finish(site):
    "Local formulas, short names and relative links, in every page and in the search index."
    move = Move(site)
    for page in move.names:
        text = (site / page).read_text(encoding="utf-8")
        text = KATEX_CALL.sub("", CDN_TAG.sub("", MATH.sub(mathml, SOURCE.sub("", text))))
        text = CODE.sub(lambda m: CODE_LINK.sub(r"\1", m[0]), text)
        (site / page).write_text(move.html(text, page), encoding="utf-8")
    found = json.loads((site / "search.json").read_text(encoding="utf-8"))
    for entry in found:  # words alone, and places from the root
        entry["text"] = CODE_LINK.sub(r"\1", entry["text"])
        entry |= {key: moved_href(entry[key]) for key in ("objectID", "href")}
    (site / "search.json").write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
    sitemap = (site / "sitemap.xml").read_text(encoding="utf-8")
    (site / "sitemap.xml").write_text(re.sub(
        rf"(?<=<loc>{re.escape(move.ours)})[^<]*", lambda m: short(m[0]), sitemap), encoding="utf-8")
    for file in [p for p in site.rglob("*") if p.is_file() and "site_libs" not in p.parts]:
        new = site / short(file.relative_to(site).as_posix())
        new.parent.mkdir(exist_ok=True, parents=True)
        file.rename(new)
    for folder in sorted((p for p in site.rglob("*") if p.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


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
    pages = {p.relative_to(site).as_posix(): Page(p) for p in site.rglob("*.html")}
    for name, page in pages.items():
        yield from (f"{name} needs {n[:80]} from the network" for n in page.needs
                    if re.match(r"(https?:)?//", n))
        for link in page.links + page.needs:
            if re.match(r"[a-z]+:|//", link):
                continue
            path, _, anchor = link.partition("#")
            path = unquote(path.split("?")[0])
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name
            if (site / target).is_dir():
                target = posixpath.normpath(f"{target}/index.html")
            if target.startswith("../") or not (site / target).is_file():
                yield f"{name} links to {link}, which does not exist"
            elif target in pages and anchor and unquote(anchor) not in pages[target].ids:
                yield f"{name} links to {link}: no such place on that page"
        text = (site / name).read_text(encoding="utf-8")
        if 'class="math' in text:
            yield f"{name} holds a formula that was not converted"
        if any(CODE_LINK.search(m[0]) for m in CODE.finditer(text)):
            yield f"{name} shows the source of a link in its code"
    found = json.loads((site / "search.json").read_text("utf-8"))
    yield from (f"{n} is not in the search index" for n in pages.keys() - {e["href"].split("#")[0] for e in found})
    places = {e["href"] for e in found if (at := e["href"].partition("#"))[2] and at[2] not in pages[at[0]].ids}
    yield from (f"the search index names {p}: no such place" for p in sorted(places))
    places = re.findall(r"<loc>(.*?)</loc>", (site / "sitemap.xml").read_text("utf-8"))
    ours = get_config().doc_host + get_config().doc_baseurl + "/"
    yield from (f"the site map names {p}: no such page" for p in places if p.removeprefix(ours) not in pages)


def main():
    "Builds, moves and checks the site."
    out = Path(sys.argv[1] if len(sys.argv) > 1 else get_config().doc_path).resolve()
    site = render(stage())
    finish(site)
    if bad := list(problems(site)):
        sys.exit("\n".join(bad))
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(site, out)
    pages = list(out.rglob("*.html"))
    formulas = sum(p.read_text(encoding="utf-8").count("<math ") for p in pages)
    figures = sum(p.read_text(encoding="utf-8").count("<img") for p in pages)
    print(f"{len(pages)} pages, {formulas} formulas, {figures} figures in {out}")


if __name__ == "__main__":
    main()
