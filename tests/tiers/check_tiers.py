#!/usr/bin/env python3
"""The rules of the house that a compiler does not hold: check_tiers.py SOURCE_ROOT

Tiers include only tiers below them; nothing above src/device knows OpenCL, and one file knows CLBlast; kernels have no atomics;
no file names a folder of the machine it was written on.
"""
import pathlib
import re
import sys

BELOW = {  # tier: what it may include besides itself
    "base": [],
    "data": ["base"],
    "checkpoint": ["base"],
    "op": ["base"],
    "lower": ["op", "base"],
    "device": ["lower", "op", "base"],
    "graph": ["device", "lower", "op", "base"],
    "model": ["graph", "device", "op", "checkpoint", "base"],
    "diffusion": ["model", "graph", "device", "op", "base"],
    "train": ["diffusion", "model", "graph", "device", "op", "data", "checkpoint", "base"],
}
PUBLIC = {"status": "base", "tensor": "base", "tune": "device", "picture_out": "data", "measure": "data", "doctor": "train", "preset": "train", "forecast": "train", "advice": "train", "lunette": None}  # others: the tier of that name
ABOVE_DEVICE = ["graph", "model", "diffusion", "train"]

root = pathlib.Path(sys.argv[1])
problems, files = [], 0


def complain(path, number, what):
    problems.append("%s:%d: %s" % (path.relative_to(root), number, what))


def lines_of(path):
    return enumerate(path.read_text(errors="replace").splitlines(), 1)


def included(line):
    match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
    return match.group(1) if match else None


def public_tier(name):
    return PUBLIC.get(name, name)


def check_include(path, number, tier, name):
    folder, _, leaf = name.rpartition("/")
    first = folder.split("/")[0]
    if first == "lunette":
        other = public_tier(leaf[:-2])
    elif first in BELOW:
        other = first
    else:
        return
    if other is None:
        complain(path, number, "includes the header of all tiers")
    elif other not in BELOW:
        complain(path, number, "%s belongs to no tier" % name)
    elif other != tier and other not in BELOW[tier]:
        complain(path, number, "%s includes %s, which is not below it" % (tier, other))


for tier in sorted(p.name for p in (root / "src").iterdir() if p.is_dir()):
    if tier not in BELOW:
        problems.append("src/%s: a tier that tests/tiers does not know" % tier)
        continue
    for path in sorted((root / "src" / tier).rglob("*.[ch]")):
        files += 1
        opencl_driver = (root / "src/device/opencl") in path.parents
        for number, line in lines_of(path):
            name = included(line)
            if name:
                check_include(path, number, tier, name)
                if re.match(r"CL/|clblast", name, re.I) and not opencl_driver:
                    complain(path, number, "only src/device/opencl includes OpenCL")
            if tier in ABOVE_DEVICE and re.search(r"opencl|\bcl_\w|\bcl[A-Z]\w+\(|clblast", line, re.I):
                complain(path, number, "nothing above src/device knows OpenCL")
            if re.search(r"\bCLBlast\w*\(|clblast_c\.h", line) and path.name != "gemm.c":
                complain(path, number, "only gemm.c knows CLBlast")

for path in sorted((root / "include/lunette").glob("*.h")):
    files += 1
    tier = public_tier(path.stem)
    for number, line in lines_of(path):
        name = included(line)
        if name and tier is not None:
            check_include(path, number, tier, "lunette/" + name if (path.parent / name).exists() else name)
        if re.search(r"\bcl_\w|CL/", line):
            complain(path, number, "an OpenCL type in a public header")

for path in sorted(p for p in (root / "cl").rglob("*") if p.suffix in (".cl", ".h")):
    files += 1
    for number, line in lines_of(path):
        if re.search(r"\batom(ic)?_\w+\s*\(", line):
            complain(path, number, "an atomic: sums must have a fixed order")

elsewhere = re.compile(r"(?<![\w.$}{*-])/(root|work|home/\w+)/")
for top in ("src", "cl", "include", "tools", "tests", "subprojects", ".ci"):
    for path in sorted((root / top).rglob("*")):
        if path.suffix in (".c", ".h", ".cl", ".py", ".sh", ".md", ".build", ".wrap", "") and path.is_file() and path.name != "check_tiers.py":
            for number, line in lines_of(path):
                if elsewhere.search(line):
                    complain(path, number, "names a folder of somebody's machine")

print("\n".join(problems) if problems else "%d files keep the rules" % files)
sys.exit(1 if problems or files < 50 else 0)
