"""What keeps the chapters apart: python .ci/rooms.py NAME [ROOM ...]; exits 1 and says why.

    direction   imports of every module, nested and lazy ones too, from its syntax tree
    loaded      the same at run time: which rooms are in sys.modules after all modules of a room were imported
    start       importing pgolf or a room's facade is quick and does not load torch
    modules     a notebook and the module that it exports have one name
    planted     the first two fail where a forbidden import is planted in a copy of the package

A chapter nbs/05_model is the room pgolf/model; its number is the direction: imports go to lower numbers only.
"""
import ast
import json
import pkgutil
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

ROOT = Path.cwd()
PACKAGE = "pgolf"
LEAVES = ("errors", "facade")  # import nothing of the package
TOPS = ("pipeline", "cli")  # may import every room but the last, and are imported by nobody below them
ALONE = "bench"  # imported by nobody
START = 0.2  # seconds


def rooms():
    "Room -> its chapter's number, in order."
    found = (re.fullmatch(r"(\d+)_(\w+)", p.name) for p in sorted((ROOT / "nbs").iterdir()) if p.is_dir())
    return {m[2]: int(m[1]) for m in found if m}


def sources():
    "Module -> (path, whether it is a package) of the whole package."
    files = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        package = parts[-1] == "__init__"
        files[".".join(parts[:-1] if package else parts)] = path, package
    return files


def absolute(name, module, package):
    "A module's name without leading dots, as seen from `module`."
    dots = len(name) - len(name.lstrip("."))
    if not dots:
        return name
    here = module.split(".")[:len(module.split(".")) - dots + package]
    return ".".join([*here, name.lstrip(".")] if name.lstrip(".") else here)


def literal(node):
    "The value of a node that is written out, else None."
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def called(node, module, package):
    "Modules that a call imports by their written names: `import_module`, `__import__`, a facade's `lazy`."
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    args = [literal(a) for a in node.args]
    if name in ("import_module", "__import__") and args and isinstance(args[0], str):
        anchor = args[1] if len(args) > 1 and isinstance(args[1], str) else None
        yield absolute(args[0], anchor or module, True if anchor else package), None
    if name == "lazy" and len(args) > 1 and isinstance(args[0], str):
        yield from ((absolute(f".{key}", args[0], True), None) for part in args[1:] for key in part or ())


def imported(tree, module, package):
    "(line, module, name or None) of everything that a file imports, wherever it stands."
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute("." * node.level + (node.module or ""), module, package)
            yield from ((node.lineno, base, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, *found) for found in called(node, module, package))


def room_of(module):
    "The first name below the package: a room, a leaf or a top; empty for the package itself."
    return module.split(".")[1] if "." in module else ""


def forbidden(module, package, target, name, order, known):
    "Why `module` may not import `name` of `target`; None if it may."
    here, there = room_of(module), room_of(target)
    if here in LEAVES:
        return "it imports nothing of the package"
    if target.endswith(".__main__"):
        return "a __main__ is run, not imported"
    if there == ALONE and here not in ("", ALONE):  # the package itself hands on every room by its name
        return f"nobody imports {ALONE}"
    if there in TOPS and here not in ("", "cli") and here != there:
        return "only cli and the package itself import it"
    if order.get(there, -1) > order.get(here, 1 << 30):
        return f"chapter {order[here]} does not import from chapter {order[there]}"
    if name and there in order and target.count(".") == 1 and not (package and target == module):
        return "a room's facade is for notebooks; import the module that defines the name"
    if target not in known:
        return "there is no such module"
    return None


def direction():
    "Every import of the package goes down, to a module."
    order, known = rooms(), sources()
    if missing := [r for r in order if f"{PACKAGE}.{r}" not in known]:
        yield f"chapters without a room in {PACKAGE}/: {', '.join(missing)}"
    for module, (path, package) in known.items():
        for line, target, name in imported(ast.parse(path.read_text(encoding="utf-8")), module, package):
            if target.split(".")[0] != PACKAGE:
                continue
            if name and f"{target}.{name}" in known:  # from ..model import gpt: a module
                target, name = f"{target}.{name}", None
            if why := forbidden(module, package, target, name, order, known):
                yield f"{path.relative_to(ROOT)}:{line} imports {target}{f'.{name}' if name else ''}: {why}"


def loads(room):
    "Imports all modules of a room, leaf or top; (room, rooms in sys.modules). For a process of its own."
    sys.path.insert(0, str(ROOT))
    package = import_module(f"{PACKAGE}.{room}")
    for info in pkgutil.walk_packages(getattr(package, "__path__", []), f"{package.__name__}."):
        if not info.name.endswith(".__main__"):
            import_module(info.name)
    return room, {room_of(m) for m in sys.modules if m.startswith(f"{PACKAGE}.")}, package.__file__


def loaded(*some):
    "What is loaded after a room was imported lies below it."
    import torch  # noqa: F401, once: the processes are forks of this one, in which nothing of the package is loaded
    order = rooms()
    with get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        for room, there, file in pool.imap(loads, some or [*order, *TOPS, *LEAVES], chunksize=1):
            if not Path(file).is_relative_to(ROOT):
                yield f"{PACKAGE}.{room} was imported from {file}, not from {ROOT}"
            top = {**order, **dict.fromkeys(LEAVES, -1), **dict.fromkeys(TOPS, order[ALONE] - 1)}[room]
            high = [r for r in order if r in there and order[r] > top]
            high += [t for t in TOPS if t in there and room not in (t, "cli")]
            if high:
                yield f"importing the modules of {PACKAGE}.{room} loads {', '.join(high)}"


TIMED = """import sys, time
start = time.perf_counter()
import {0}
print(time.perf_counter() - start, "torch" in sys.modules)"""


def start():
    "Facades are quick: the best of three fresh processes, without Python's own start."
    worst = 0.0, ""
    for name in [PACKAGE, *(f"{PACKAGE}.{room}" for room in rooms())]:
        said = [subprocess.check_output([sys.executable, "-c", TIMED.format(name)], text=True, cwd=ROOT).split()
                for _ in range(3)]
        seconds = min(float(s) for s, _ in said)
        worst = max(worst, (seconds, name))
        if said[0][1] != "False":
            yield f"importing {name} loads torch"
        if seconds > START:
            yield f"importing {name} takes {seconds:.2f} s, more than {START}"
    print(f"slowest: {worst[1]}, {worst[0]:.3f} s")


def exports(path):
    "The module that a notebook exports, or None."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    if not any(re.match(r"#\| *exports?\s*$", c, re.M) for c in code):
        return None
    return next((m[1] for c in code if (m := re.search(r"^#\| *default_exp (\S+)", c, re.M))), None)


def modules():
    "nbs/05_model/03_attention.ipynb exports pgolf/model/attention.py; every module has one such notebook, in git."
    ours = {}
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        where = path.relative_to(ROOT / "nbs")
        if (module := exports(path)) is None or any(p.startswith((".", "_")) for p in where.parts):
            continue
        *folder, name = (re.sub(r"^\d+_", "", p) for p in where.with_suffix("").parts)
        if folder == ["config"] and name in LEAVES:
            folder = []
        special = {"index": "__init__", "main": "__main__"} if folder else {"package": "__init__"}
        if module != (said := ".".join([*folder, special.get(name, name)])):
            yield f"nbs/{where} exports {module}; its name says {said}"
        if module in ours:
            yield f"nbs/{where} and nbs/{ours[module]} export {module}"
        ours[module] = where
    listed = subprocess.check_output(["git", "ls-files", f"{PACKAGE}/*.py"], text=True, cwd=ROOT).split()
    have = {f.removeprefix(f"{PACKAGE}/").removesuffix(".py").replace("/", ".") for f in listed}
    yield from (f"{PACKAGE}/{m.replace('.', '/')}.py is not in git" for m in sorted(ours.keys() - have))
    made = {"__init__", "_modidx"}  # by nbdev
    yield from (f"{PACKAGE}/{m.replace('.', '/')}.py: no notebook exports it" for m in sorted(have - ours.keys() - made))


PLANTS = [  # module, what is written at its end, a word of the only complaint; "loads": by sys.modules
    ("model/gpt", "from ..train.loop import train", "chapter 5"),
    ("model/gpt", "from pgolf.train import loop", "chapter 5"),
    ("model/gpt", "import pgolf.train.loop as later", "chapter 5"),
    ("model/gpt", "def later():\n    if True:\n        from ..train.loop import train\n        return train", "chapter 5"),
    ("model/gpt", "def later():\n    import importlib\n    return importlib.import_module('pgolf.train.loop')", "chapter 5"),
    ("model/gpt", "def later():\n    return import_module('..train.loop', 'pgolf.model')", "chapter 5"),
    ("model/__init__", "lazy('pgolf', {'train.loop': ['train']})", "chapter 5"),
    ("model/gpt", "def later():\n    from ..config import load_preset", "facade"),
    ("cli", "from pgolf.model import GPT", "facade"),
    ("errors", "from .config import run", "nothing"),
    ("cli", "def later():\n    from .bench import stopwatch", "bench"),
    ("train/__main__", "def later():\n    from pgolf import bench", "bench"),
    ("launch/start", "def later():\n    from ..train import __main__", "not imported"),
    ("runs/folder", "def later():\n    from .. import pipeline", "only cli"),
    ("errors", "__import__('.'.join(['pgolf', 'model']))", "loads"),
]


def copied(folder):
    "A copy of the package, and folders named as the chapters, in `folder`."
    shutil.copytree(ROOT / PACKAGE, folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    for room, number in rooms().items():
        (folder / "nbs" / f"{number:02}_{room}").mkdir(parents=True)


def planted():
    "Forbidden imports, one at a time, in a copy: each is found, and nothing where none is."
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        copied(folder)

        def said(word, module):
            check = ["loaded", module.split("/")[0]] if word == "loads" else ["direction"]
            done = subprocess.run([sys.executable, __file__, *check], cwd=folder, capture_output=True, text=True)
            return {line for line in (done.stdout + done.stderr).splitlines() if done.returncode}

        before, missed = said("", ""), 0  # what is wrong already is for `direction` to say
        for module, code, word in PLANTS:
            path = folder / PACKAGE / f"{module}.py"
            was = path.read_text(encoding="utf-8")
            path.write_text(f"{was}\n{code}\n", encoding="utf-8")
            found = said(word, module) - before
            path.write_text(was, encoding="utf-8")
            if len(found) != 1 or word not in "".join(found):
                missed += 1
                yield f"{module}: {code!r} was not found; instead: {found or 'nothing'}"
    print(f"{len(PLANTS) - missed} of {len(PLANTS)} planted imports were found")


def main():
    "Runs one check, which fails if it complains."
    name, *args = sys.argv[1:]
    if complaints := list(globals()[name](*args)):
        sys.exit("\n".join(complaints))


if __name__ == "__main__":
    main()
