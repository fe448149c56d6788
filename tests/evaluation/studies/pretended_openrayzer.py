"""Pretends to be ``openrayzer train`` and ``openrayzer evaluate``: writes the files of a run at once.

The metric depends on the changes, so that variants and seeds differ. The file ``broken`` beside this run's study makes
trainings with the learning rate 9 fail; the file ``slow`` makes all trainings take a minute.
"""

import json
import sys
import time
from pathlib import Path

_, module, command, *words = sys.argv
assert module == "openrayzer.cli"
output = Path(words[words.index("--output") + 1])
with Path("calls").open("a") as calls:
    calls.write(f"{command} {output}\n")

if command == "train":
    changes = words[words.index("--set") + 1 :]
    values = dict(change.split("=", 1) for change in changes)
    rate, seed, steps = (float(values[f"train.{key}"]) for key in ("optimizer.learning_rate", "seed", "steps"))
    if rate == 9 and Path("broken").exists():
        sys.exit("error: the loss is not finite")
    if Path("slow").exists():
        Path("started").touch()
        time.sleep(60)
    checkpoint = output / f"checkpoints/step_{int(steps):08d}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text(json.dumps({"format": 1, "step": steps, "files": {}}))
    log = [{"step": int(steps), "split": "train", "seconds": 2.0, "loss": 1.0}]
    log += [{"step": int(steps), "split": "test", "psnr": 20.0 + rate + seed}]
    (output / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    (output / "rate.json").write_text(json.dumps([rate, seed]))
else:
    rate, seed = json.loads((Path(words[words.index("--run") + 1]) / "rate.json").read_text())
    psnr = {f"scene_{number}": 20.0 + number + rate + 0.1 * seed for number in range(4)}
    scenes = {
        name: {"metrics": {"joint": {"psnr": value}, "joint_exchanged_cameras": {"psnr": value - 2}}, "poses": {}}
        for name, value in psnr.items()
    }
    transfer = {"joint": {"driven": {"auc@20": 0.75}}}
    sanity = {"joint": {"shuffled_order": {"passed": 0.5}}}
    output.mkdir(parents=True, exist_ok=True)
    content = {"format": 1, "placements": {"joint": {}}, "per_scene": scenes, "sanity": sanity, "transfer": transfer}
    (output / "metrics.json").write_text(json.dumps(content))
