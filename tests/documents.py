"""Runs what the documents show: ``python documents.py FOLDER PAGE...``.

Every ``console`` line that begins with ``$ ``, every ``python`` block and every ``sh`` block of a
page is run in order, in a folder of the page's own that holds what the pages take for granted: a
reader's table, pictures, weights file and filled cache. ``headstock`` and Python run in this
process, all else in a shell (``scripts.py``). A command whose line ends in ``# exit N`` must end
with that code, any other with 0. What a ``console`` block shows below a command must be in what the
command prints, ``…`` standing for anything. One JSON line a page tells how it went, and the
processor seconds that it took.
"""

import contextlib
import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import traceback
import types
from pathlib import Path

from scripts import Shell

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(console|python|sh)\n(.*?)^```", re.M | re.S)
LANGUAGE = re.compile(r"^ *```(\w*)", re.M)  # of an opening and a closing line in turn
OUTSIDE = "make test"  # this is a part of it
SLOW = "<!-- test: slow -->"


def pages() -> list[str]:
    """README and every page of docs/ that shows something to run, as paths from the root."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [p.relative_to(ROOT).as_posix() for p in found if steps(p.read_text("utf-8"))]


def is_slow(page: str) -> bool:
    return SLOW in (ROOT / page).read_text("utf-8")


def steps(text: str) -> list[tuple[str, str, list[str]]]:
    """(``python``, ``sh`` or ``headstock``, what to run, lines that it must print) in order."""
    found: list[tuple[str, str, list[str]]] = []
    for kind, body in BLOCK.findall(text):
        if kind != "console":
            found.append((kind, body, []))
            continue
        shown = False
        for line in body.replace("\\\n", " ").splitlines():
            if line[:2] == "$ ":
                shown = not line[2:].startswith(OUTSIDE)
                if shown:
                    command = line[2:].strip()
                    kind = "headstock" if command.startswith("headstock ") else "sh"
                    found.append((kind, command, []))
            elif shown and line.strip():
                found[-1][2].append(line)
    return found


def lacks(said: str, wanted: list[str]) -> str:
    """The first of the ``wanted`` lines that was not said; spaces count as one."""
    flat = " ".join(said.split())
    for line in wanted:
        parts = map(re.escape, re.split(r"\s*…\s*", " ".join(line.split())))
        if not re.search(".*".join(parts), flat):
            return line
    return ""


def user(folder: Path) -> None:
    """What the pages take for granted. Weights are random: what is tested is that the commands
    work, not what they score."""
    import numpy as np
    import timm
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    from headstock.extract.demo import write_demo

    folder.mkdir()
    torch.manual_seed(0)
    weights = timm.create_model("resnext50_32x4d", pretrained=False).state_dict()
    save_file(weights, folder / "resnext50.safetensors")
    cache = folder / "cache/hub/models--timm--resnext50_32x4d.a1h_in1k"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs/main").write_text("0" * 40)
    (cache / "snapshots" / ("0" * 40)).mkdir(parents=True)
    os.link(folder / "resnext50.safetensors", cache / f"snapshots/{'0' * 40}/model.safetensors")

    table = write_demo(folder / "demo")
    rows = list(csv.DictReader(table.open()))
    os.link(folder / "resnext50.safetensors", folder / "resnext.safetensors")
    (folder / "pictures").mkdir()
    shutil.copy(table.parent / rows[0]["image"], folder / "pictures/b.png")
    with Image.open(folder / "pictures/b.png") as picture:
        picture.convert("RGB").save(folder / "pictures/a.jpg")
    shutil.copy(folder / "pictures/a.jpg", folder / "picture.jpg")
    shutil.copy(table.parent / rows[0]["audio"], folder / "sound.wav")
    with (folder / "index.csv").open("w", newline="") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        for row in rows[:64]:
            out.writerow(row | {k: f"demo/{row[k]}" for k in ("image", "audio")})
    for row in rows[:120]:
        shutil.copy(table.parent / row["image"], folder / "pictures" / f"{row['id']}.png")
    for i, row in enumerate(rows[:300]):
        place = folder / "photos" / f"digit {row['label']}"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(table.parent / row["image"], place / f"{i:03d}.png")
    competition(folder, rows)
    centres = np.random.default_rng(0).normal(size=(10, 104)) * 2
    noise = np.random.default_rng(1).normal(size=(120, 104))
    for name, part in (("train", range(100)), ("test", range(100, 120))):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            out = csv.writer(file)
            head = ["IMAGE", *(f"mfcc_{i}" for i in range(1, 105))]
            out.writerow([*head, "CLASS"] if name == "train" else head)
            for i in part:
                label = rows[i]["label"]
                line = [f"{rows[i]['id']}.png", *np.round(centres[int(label)] + noise[i], 4)]
                out.writerow([*line, label] if name == "train" else line)


def competition(folder: Path, rows: list[dict[str, str]]) -> None:
    """Forty pairs of four classes to make a competition of, two such competitions, and random
    weights of torchvision's ResNet-50 in its cache."""
    import torch
    import torchvision

    few = [row for row in rows if row["label"] in "0123"][:40]
    (folder / "animals").mkdir()
    with (folder / "animals/index.csv").open("w", newline="") as file:
        out = csv.DictWriter(file, ["id", "image", "audio", "label"], extrasaction="ignore")
        out.writeheader()
        for row in few:
            files = {"image": f"{row['id']}.png", "audio": f"{row['id']}.wav"}
            for kind, name in files.items():
                shutil.copy(folder / "demo" / row[kind], folder / "animals" / name)
            out.writerow({**row, **files, "label": f"class {row['label']}"})
    program = [sys.executable, ROOT / "examples/kaggle_scenes/stand_in.py"]
    subprocess.run([*program, folder / "animals/index.csv", folder / "scenes"], check=True)
    shutil.copytree(folder / "scenes", folder / "scenes50")
    cache = folder / "cache/hub/checkpoints"
    cache.mkdir(parents=True)
    torch.save(torchvision.models.resnet50().state_dict(), cache / "resnet50-11ad3fa6.pth")


def pretraining(folder: Path) -> None:
    """Pictures of noise in the places of those that the small ResNeXt and its probes are of, and
    random weights in the places of the MobileNets'."""
    import zipfile

    import numpy as np
    import timm
    from PIL import Image
    from safetensors.torch import save_file

    rng = np.random.default_rng(0)

    def picture() -> bytes:
        out = io.BytesIO()
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((64, 64)).save(out, "png")
        return out.getvalue()

    with zipfile.ZipFile(folder / "tiny_imagenet_48k.zip", "w") as archive:
        for split, count in (("train", 160), ("val", 20)):
            for i in range(count):
                archive.writestr(f"{split}/n{i % 4:08d}/{i}.png", picture())
    (folder / "animals8_av/images").mkdir(parents=True)
    (folder / "animals8_av/images/1.png").write_bytes(picture())
    for name in ("digits_av", "animals8_av"):
        (folder / "data" / name).mkdir(parents=True)
        with (folder / "data" / name / "index.csv").open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["image", "label", *(["split"] if name == "digits_av" else [])])
            for i in range(40):
                (folder / "data" / name / f"{i}.png").write_bytes(picture())
                split = ["test" if i % 5 == 0 else "train"] if name == "digits_av" else []
                out.writerow([f"{i}.png", i % 4, *split])
    (folder / "data/weights").mkdir()
    build = timm.models.efficientnet._gen_mobilenet_v1
    small = build("mobilenetv1_100", channel_multiplier=0.25, fix_stem_head=False, pad_type="same")
    large = timm.create_model("mobilenetv2_100", pad_type="same").state_dict()
    save_file(small.state_dict(), folder / "data/weights/mobilenetv1_025.imagenet.safetensors")
    save_file(large, folder / "data/weights/mobilenetv2_100.imagenet.safetensors")
    save_file(large, folder / "mobilenetv2_100.safetensors")


MADE = (
    "extract demo/index.csv -o features.h5 --image headstock:resnext_nano --audio mfcc",
    "evaluate features.h5 --head logistic --head lda -o runs/first",
    "evaluate features.h5 --head knn --on image --folds 3 -o runs/second",
    "fit features.h5 --head logistic --on image+audio --fusion weighted -o model.headstock",
)


def run(kind: str, text: str, names: dict, shell: Shell | None = None) -> tuple[int, str]:
    """(exit code, what it printed) of one step."""
    if kind == "sh":
        return shell.run(text)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            if kind == "python":
                exec(compile(text, "<page>", "exec"), names)
                return 0, out.getvalue()
            from headstock.cli import main

            main(shlex.split(text, comments=True)[1:])
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0, out.getvalue()
        except BaseException:  # noqa: BLE001  told to the test
            return 1, out.getvalue() + traceback.format_exc()
    return 0, out.getvalue()


def tell(page: str, home: Path, folder: Path) -> dict:
    """Run a page in a copy of ``home``; its answer, ready for JSON."""
    shutil.copytree(home, folder, copy_function=_link_or_copy)
    os.chdir(folder)
    if page == "docs/resnext_nano.md":
        pretraining(folder)
    begin = sum(os.times()[:4])
    module = sys.modules["__page__"] = types.ModuleType("__page__")  # its classes can be pickled
    names = module.__dict__
    shell = Shell(folder)
    try:
        for kind, text, shown in steps((ROOT / page).read_text("utf-8")):
            wanted = re.search(r"# exit (\d+)$", text) if kind == "headstock" else None
            code, said = run(kind, text, names, shell)
            if code != (int(wanted[1]) if wanted else 0) or "Traceback" in said:
                return {"page": page, "step": text, "code": code, "said": said[-3000:]}
            if line := lacks(said, shown):
                return {"page": page, "step": text, "not said": line, "said": said[-3000:]}
    finally:
        ended = shell.close()
    if any(ended):
        return {"page": page, "step": "headstock serve", "code": ended}
    return {"page": page, "step": None, "seconds": round(sum(os.times()[:4]) - begin, 1)}


def _link_or_copy(source: str, target: str) -> None:
    """Large files are linked: nothing that runs here changes one in place."""
    if source.endswith((".png", ".wav", ".safetensors")):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def main() -> None:
    base = Path(sys.argv[1])
    home = base / "user"
    cache = str(base / "user/cache")
    os.environ |= {"HF_HOME": cache, "TORCH_HOME": cache, "HF_HUB_OFFLINE": "1"}
    user(home)
    os.chdir(home)
    for words in MADE:
        code, said = run("headstock", f"headstock {words}", {})
        assert code == 0, said
    for number, page in enumerate(sys.argv[2:]):
        print(json.dumps(tell(page, home, base / f"{number}")), flush=True)


if __name__ == "__main__":
    main()
