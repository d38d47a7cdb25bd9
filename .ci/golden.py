"""Golden values: losses, artifact and scores of the small presets, to the last digit.

    python .ci/golden.py FILE [PRESET ...]            writes FILE (JSON)
    python .ci/golden.py --check FILE [PRESET ...]    runs them again; exits 1 and names what differs

A change that should change nothing leaves all of them as they are. Runs are on the CPU with one thread, by
steps and not by the clock, and without the code's own bytes, so that only arithmetic counts. Another PyTorch,
other vector units or OMP_NUM_THREADS change the last digits, so the file says where it was written, and a check
elsewhere is refused: write a file there from the commit before the change.
"""
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import torch

from pgolf.artifact import read_artifact
from pgolf.config import list_presets, load_preset
from pgolf.pipeline import train_and_score

BY_STEPS = "schedule.progress=steps train.threads=1 train.max_seconds=100000 train.device=cpu"


def small() -> list[str]:
    "Presets that a CPU can run."
    return ["tiny", "smoke", *(name for name in list_presets() if name.endswith("-tiny"))]


def golden(preset: str) -> dict:
    "What one run computes."
    with tempfile.TemporaryDirectory() as folder:
        outcome = train_and_score(load_preset(preset, BY_STEPS), folder, code_bytes=0)
        lines = (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        data = read_artifact(Path(folder) / "artifact.pgolf")
    losses = [[r["step"], r["step_loss"]] for r in map(json.loads, lines)]
    return {"losses": losses, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "bpb": outcome.bpb}


def differences(was: dict, now: dict) -> list[str]:
    "One line for each value that is not what it was."
    return [f"{preset}: {key} was {was[preset][key]}, is {now[preset][key]}"
            for preset in now for key in now[preset] if was[preset][key] != now[preset][key]]


def main(words: list[str]):
    check = "--check" in words
    file, *presets = (w for w in words if w != "--check")
    about = {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}
    was = json.loads(Path(file).read_text(encoding="utf-8")) if check else {}
    if check and about != (there := {key: was.get(key) for key in about}):
        sys.exit(f"{file} was written with {there}, here is {about}: write one here, from the commit before the change")
    now = {}
    for preset in presets or small():
        now[preset] = golden(preset)
        print(preset, now[preset]["sha256"][:12], now[preset]["bpb"], flush=True)
    if check:
        found = differences(was["presets"], now)
        sys.exit("\n".join(found) if found else 0)
    Path(file).write_text(json.dumps(about | {"presets": now}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
