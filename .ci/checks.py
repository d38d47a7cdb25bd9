"""Small checks of .ci/run: python .ci/checks.py NAME [ARGUMENT]; exits 1 and says why."""
import json
import math
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path.cwd()
LIMITS = {"nbs": 200_000, "runs": 2_000_000}  # bytes of outputs in one notebook
SECRETS = [r"AKIA[0-9A-Z]{16}", r"\bhf_[A-Za-z0-9]{30,}", r"\bgh[pousr]_[A-Za-z0-9]{30,}",
           r"\bsk-[A-Za-z0-9_-]{20,}", r"\bxox[abpr]-[A-Za-z0-9-]{10,}",
           r"-----BEGIN [A-Z ]*PRIVATE KEY-----", r"https?://[^/\s:@\"']+:[^/\s:@\"']+@[\w.-]+"]
HOME = r"(?<![\w.~])/(?:home|Users|root)/[\w.-]+"  # where somebody worked; says nothing to others
TRACES = {  # of the machine that made an output, and of what it complained about
    "a temporary folder": r"(?<![\w.~/:])/(?:private/)?(?:tmp|var/tmp|var/folders)/[\w.-]+",
    "a folder of installed packages": r"\S*/(?:site|dist)-packages/\S*",
    "the place of a file": r'File "/[^"\n]+"',
    "a warning": r"\b[A-Z]\w*Warning: .{0,60}|IProgress not found",
}


def tracked(suffix=""):
    "Files of the repository whose name ends in suffix."
    names = subprocess.check_output(["git", "ls-files", "-z"], text=True).split("\0")
    return [ROOT / n for n in names if n and n.endswith(suffix) and (ROOT / n).is_file()]


def notebooks():
    "(path, notebook) of every notebook of the repository."
    return [(p, json.loads(p.read_text(encoding="utf-8"))) for p in tracked(".ipynb")]


def commands():
    "The README's two commands, one a line: the run, then the tests."
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.S | re.M)
    lines = [ln.strip() for b in blocks for ln in b.splitlines() if "pip install" in ln]
    if len(lines) != 2 or "papermill" not in lines[0] or "nbdev_test" not in lines[1]:
        sys.exit(f"README.md must hold two commands, the run and the tests; it holds {lines}")
    print("\n".join(lines))


def sizes():
    "No notebook carries more output than it may."
    for path, nb in notebooks():
        size = sum(len(json.dumps(c.get("outputs", []))) for c in nb["cells"])
        limit = LIMITS.get(path.relative_to(ROOT).parts[0], LIMITS["nbs"])
        if size > limit:
            yield f"{path.relative_to(ROOT)}: {size:,} bytes of output; at most {limit:,}"


def errors():
    "No stored output is an error, and papermill's `parameters` tag is there."
    for path, nb in notebooks():
        for i, cell in enumerate(nb["cells"]):
            if any(o["output_type"] == "error" for o in cell.get("outputs", [])):
                yield f"{path.relative_to(ROOT)}: cell {i} holds an error"
        tags = [t for c in nb["cells"] for t in c.get("metadata", {}).get("tags", [])]
        if path == ROOT / "nbs" / "train.ipynb" and tags.count("parameters") != 1:
            count = tags.count("parameters")
            yield f"{path.relative_to(ROOT)}: one cell must be tagged `parameters`, {count} are"


def secrets():
    "No key, password or home folder in any file, and no `traces` of a machine in any output."
    for path in tracked():
        text = path.read_bytes().decode("utf-8", "replace")
        for pattern in [*SECRETS, *([HOME] if path.suffix == ".ipynb" else [])]:
            if found := re.search(pattern, text):
                line = text.count("\n", 0, found.start()) + 1
                yield f"{path.relative_to(ROOT)}:{line} looks like a secret or a home folder"
    yield from traces()


def kept():
    "Every run that a page names is in the repository, file by file; runs/ holds records, runs/bench/ the rest."
    have = [str(p.relative_to(ROOT)) for p in tracked() if p.relative_to(ROOT).parts[0] == "runs"]
    for path, nb in notebooks():
        if path.relative_to(ROOT).parts[0] == "runs":
            continue
        for i, cell in enumerate(nb["cells"]):
            text = "".join(cell["source"]) if cell["cell_type"] == "markdown" else ""
            for name in re.findall(r"`(runs/(?:bench/)?\d{8}-[^`\s]+)`", text):
                if not any(fnmatch(h, name) or fnmatch(h, name.rstrip("/") + "/*") for h in have):
                    yield f"{path.relative_to(ROOT)}: cell {i} names {name}, which is not kept"
    for folder in sorted({h.split("/")[1] for h in have if h.count("/") > 1} - {"bench"}):
        if lacks := {"config.json", "summary.json", "run.ipynb"} - {h.split("/")[2] for h in have if h.split("/")[1] == folder}:
            yield f"runs/{folder} has no {', '.join(sorted(lacks))}: it is no record and belongs in runs/bench"


def written(output):
    "The words of one stored output: its text, whatever carries it, without colours; no pictures."
    texts = {k: v for k, v in output.get("data", {}).items() if k.startswith("text/")}
    lines = [*texts.values(), output.get("text", ""), output.get("traceback", "")]
    text = "\n".join(line if isinstance(line, str) else "".join(line) for line in lines)
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def traces():
    "No stored output names a folder of the machine that made it, or holds a warning."
    for path, nb in notebooks():
        if path.relative_to(ROOT).parts[0] == "runs":
            continue  # a record stays as its run wrote it
        for i, cell in enumerate(nb["cells"]):
            for output in cell.get("outputs", []):
                for what, pattern in TRACES.items():
                    if found := re.search(pattern, written(output)):
                        where = f"{path.relative_to(ROOT)}: cell {i}"
                        yield f"{where} shows {what}: {found.group()[:90]}"


def executed(path):
    "An executed notebook ran to its end without an error and shows its plots."
    if not Path(path).exists():
        sys.exit(f"{path} was not made")
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    outputs = [o for c in cells for o in c.get("outputs", [])]
    if any(o["output_type"] == "error" for o in outputs):
        yield f"{path} holds an error"
    code = [c for c in cells if c["cell_type"] == "code" and "".join(c["source"]).strip()]
    idle = [c for c in code if not c["execution_count"]
            and "skip-execution" not in c["metadata"].get("tags", [])]
    if idle:
        yield f"{path}: {len(idle)} code cells did not run"
    images = sum("image/png" in o.get("data", {}) for o in outputs)
    if images < 7:
        yield f"{path} shows {images} figures; a run shows at least 7"


def summary(newer_than):
    "The run that was just made has a summary whose numbers are possible."
    since = Path(newer_than).stat().st_mtime
    made = [p for p in ROOT.glob("runs/*/summary.json") if p.stat().st_mtime >= since]
    if len(made) != 1:
        sys.exit(f"one run should have been made, {len(made)} were")
    s = json.loads(made[0].read_text(encoding="utf-8"))
    shown = ("val_bpb", "bytes_total", "steps", "train_seconds", "eval_seconds")
    print({k: s.get(k) for k in shown})
    if not 0 < s["val_bpb"] < 8 or not math.isfinite(s["val_bpb"]):
        yield f"val_bpb is {s['val_bpb']}"
    if not 0 < s["bytes_total"] <= 16_000_000:
        yield f"bytes_total is {s['bytes_total']:,}"


def tests(log):
    """Prints `passed failed` notebooks of one or more nbdev_test logs in a file, counted from what they say they did.

    Names of files alone do not tell notebooks apart (every chapter has a 00_index.ipynb), so lines are counted
    where only names are printed, and paths where they are. Two workers write to one stream, so their lines
    can run into each other or be lost; what stands at the end is written by one process.
    """
    text = Path(log).read_text(encoding="utf-8", errors="replace")
    started, done = (set(re.findall(rf"{word} (/\S+?\.ipynb)", text)) for word in ("Starting", "- Completed"))
    failed = len(listed(text)) + len(started - done)  # the latter died on the way
    timed = len(re.findall(r"^\S+\.ipynb: \d+ secs$", text, re.M))
    if not listed(text) and re.search(r"^Success\.$", text, re.M) and timed >= len(done):
        print(timed, 0)
    else:
        print(max(0, len(done) - len(listed(text))), max(1, failed))


def listed(text):
    "File names of the notebooks that nbdev_test names as failed at its end, one for each."
    return re.findall(r"^\t(\S+\.ipynb)$", text, re.M)


def failures(log):
    "Prints which notebooks failed and the last words of every traceback in an nbdev_test log."
    text = Path(log).read_text(encoding="utf-8", errors="replace")
    paths = re.findall(r"^\w+ in (\S+\.ipynb):$", text, re.M) or listed(text)
    print("failed:", ", ".join(sorted(paths)) or "no notebook was named")
    for said in re.split(r"^(?=Traceback|\w+ in \S+\.ipynb:$)", text, flags=re.M)[1:]:
        lines = re.split(r"^(?:Starting|- Completed) ", said, maxsplit=1, flags=re.M)[0].splitlines()
        print("\n".join(line[:160] for line in (lines if len(lines) < 30 else lines[:3] + ["…"] + lines[-22:])))


def slow():
    "Prints the notebooks that hold cells flagged `slow`, which the README's command leaves out."
    for path, nb in notebooks():
        code = ("".join(c["source"]) for c in nb["cells"] if c["cell_type"] == "code")
        if path.relative_to(ROOT).parts[0] == "nbs" and any(re.search(r"^#\| *slow *$", c, re.M) for c in code):
            print(path.relative_to(ROOT))


def main():
    "Runs one check; a generator of complaints fails if it complains."
    name, *args = sys.argv[1:]
    complaints = list(globals()[name](*args) or [])
    if complaints:
        sys.exit("\n".join(complaints))


if __name__ == "__main__":
    main()
