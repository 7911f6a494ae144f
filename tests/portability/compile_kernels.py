#!/usr/bin/env python3
"""Compile every kernel text, in each of its variants, for hardware that need not be here.

    compile_kernels.py PART EMBED.py CL_DIR    PART: nvptx, ptxas, amdgcn, intel

    nvptx   clang to PTX, libclc's work-item functions linked in, nothing left unresolved
    ptxas   that PTX assembled for sm_70 (sm_75 where ptxas has dropped it), sm_80 and sm_90; the texts of cl/cpu for the first
    amdgcn  clang to objects for gfx906, gfx1030 and gfx1100; the texts of cl/cpu for the first
    intel   ocloc for skl and dg2

The variants are those that the lowerings (src/lower) ask for. Exit 77 where a tool is missing: the line says which; 1 where
a text does not compile.
"""
import concurrent.futures
import glob
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True

# What a device gives to every text: CPUs one item a group, GPUs 64.
GROUPS = (1, 64)
LANES = (1, 4, 8, 16)
# Macros of single texts, by the group size that they come with. A text with a macro that is not here fails the test.
OWN = {
    "RANDOM_BLOCKS": {1: 16, 64: 1},
    "FILTER_TILE": {1: 16, 64: 1},
    "REDUCE_COLUMNS": {1: 256, 64: 1},
    "NORM_COLUMNS": {1: 512, 64: 1},
    "ATTENTION_COLUMNS": {1: 64, 64: 16},
    "ATTENTION_PARTS": {1: 2, 64: 16},
    "SQUARE_COLUMNS": {1: 256, 64: 1},
}


def skip(reason):
    print("SKIP:", reason)
    sys.exit(77)


def load_embed(path):
    spec = importlib.util.spec_from_file_location("embed", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def variants(name, text):
    """The lists of -D options a text is compiled with."""
    opens = re.findall(r"^#\s*ifndef ([A-Z]\w*)\n#\s*define \1 \w+", text, re.M)
    unknown = [m for m in opens if m not in OWN and m not in ("GROUP", "LANES")]
    # norm.cl and reduce.cl choose their default inside the conditional
    unknown += [m for m in re.findall(r"^#\s*ifndef (\w+_COLUMNS)$", text, re.M) if m not in OWN]
    if unknown:
        sys.exit("%s: no variants are listed for %s" % (name, ", ".join(unknown)))
    own = [m for m in OWN if re.search(r"\b%s\b" % m, text)]
    lanes = LANES if re.search(r"\bLANES\b", text) else (16,)
    groups = (1,) if name.startswith("cpu/") else GROUPS
    return [["-DGROUP=%d" % g, "-DLANES=%d" % l] + ["-D%s=%d" % (m, OWN[m][g]) for m in own] for g in groups for l in lanes]


def run(command, cwd):
    """Output on failure, None on success."""
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    return None if done.returncode == 0 else "%s\n%s" % (" ".join(command), done.stdout[-4000:])


def find_clang():
    """The newest clang of version 15 (gfx1100) or later."""
    found = {}
    names = glob.glob("/usr/bin/clang-[0-9]*") + glob.glob("/usr/local/bin/clang-[0-9]*") + ["clang"]
    for name in names:
        path = shutil.which(name)
        if path and re.fullmatch(r"clang(-\d+)?", os.path.basename(name)):
            said = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
            version = re.search(r"clang version (\d+)", said)
            if version and int(version.group(1)) >= 15:
                found.setdefault(int(version.group(1)), path)
    # 16 first: the version that the measurements were made with, and the libclc beside it
    return found.get(16) or (found[max(found)] if found else None)


def clang(target, *more):
    path = find_clang()
    if not path:
        skip("no clang of version 15 or later")
    return [path, "-x", "cl", "-cl-std=CL1.2", "-O2", "-target", target, "-Xclang", "-finclude-default-header", *more]


def nvptx_command():
    library = next((p for pattern in ("/usr/lib/clc", "/usr/share/clc", "/usr/lib/clang/*/lib/libclc", "/usr/lib/llvm-*/share/clc")
                    for p in glob.glob(pattern + "/nvptx64--nvidiacl.bc")), None)
    if not library:
        skip("no libclc (nvptx64--nvidiacl.bc)")
    flags = ["-target-cpu", "sm_70", "-target-feature", "+ptx63", "-mlink-builtin-bitcode", library]
    # libclc has no get_global_offset for this target, which NVIDIA's own compiler has (OpenCL 1.1): something as uniform stands in
    return clang("nvptx64--nvidiacl", "-S", "-Dget_global_offset=get_global_size", *[x for f in flags for x in ("-Xclang", f)])


def some_of(targets, name):
    """No lowering gives a GPU the texts of cl/cpu, which take longest: one target shows that they are OpenCL C."""
    return targets[:1] if name.startswith("cpu/") else targets


def part_nvptx():
    command = nvptx_command()

    def one(name, source, options, folder):
        problem = run([*command, *options, source, "-o", "k.ptx"], folder)
        if problem is None:
            external = re.findall(r"\.extern \.func.*?(\w+)\s*$", pathlib.Path(folder, "k.ptx").read_text(), re.M)
            # libdevice, of which newer libclcs make use
            external = [f for f in external if not f.startswith("__nv_")]
            if external:
                problem = "functions that nothing defines: " + ", ".join(sorted(set(external)))
        return problem
    return one, "PTX for sm_70"


def part_ptxas():
    command = nvptx_command()
    ptxas = shutil.which("ptxas") or next(iter(glob.glob("/usr/local/cuda*/bin/ptxas")), None)
    if not ptxas:
        skip("no ptxas")
    known = subprocess.run([ptxas, "--help"], capture_output=True, text=True).stdout
    wanted = ["sm_70" if "'sm_70'" in known else "sm_75", "sm_80", "sm_90"]
    targets = [t for t in wanted if "'%s'" % t in known]
    if not targets:
        skip("ptxas knows none of " + ", ".join(wanted))

    def one(name, source, options, folder):
        problem = run([*command, *options, source, "-o", "k.ptx"], folder)
        for target in some_of(targets, name):
            problem = problem or run([ptxas, "-arch", target, "k.ptx", "-o", "k.cubin"], folder)
        return problem
    return one, "ptxas for " + ", ".join(targets)


def part_amdgcn():
    command = clang("amdgcn-amd-amdhsa", "-nogpulib", "-c")
    targets = ("gfx906", "gfx1030", "gfx1100")

    def one(name, source, options, folder):
        problem = None
        for target in some_of(targets, name):
            problem = problem or run([*command, "-mcpu=" + target, *options, source, "-o", "k.o"], folder)
        return problem
    return one, "objects for " + ", ".join(targets)


def part_intel():
    ocloc = shutil.which("ocloc")
    if not ocloc:
        skip("no ocloc")
    targets = ("skl", "dg2")

    def one(name, source, options, folder):
        problem = None
        for target in targets:
            problem = problem or run([ocloc, "compile", "-file", source, "-device", target, "-options",
                                      " ".join(["-cl-std=CL1.2", *options]), "-output", "k", "-out_dir", "."], folder)
        return problem
    return one, "ocloc for " + ", ".join(targets)


def main():
    parts = {"nvptx": part_nvptx, "ptxas": part_ptxas, "amdgcn": part_amdgcn, "intel": part_intel}
    if len(sys.argv) != 4 or sys.argv[1] not in parts:
        sys.exit(__doc__)
    embed, root = load_embed(sys.argv[2]), pathlib.Path(sys.argv[3])
    names = sorted(str(p.relative_to(root)) for p in root.rglob("*.cl"))
    if not names:
        sys.exit("no kernel texts in %s" % root)
    one, what = parts[sys.argv[1]]()
    with tempfile.TemporaryDirectory() as scratch:
        work = []
        for number, name in enumerate(names):
            text = "\n".join(embed.paste(root / name, root, set())) + "\n"
            for index, options in enumerate(variants(name, text)):
                folder = pathlib.Path(scratch, "%d-%d" % (number, index))
                folder.mkdir()
                (folder / "kernel.cl").write_text(text)
                work.append((name, options, folder))
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            problems = list(pool.map(lambda w: one(w[0], "kernel.cl", w[1], str(w[2])), work))
    failures = 0
    for (name, options, _), problem in zip(work, problems):
        if problem is not None:
            failures += 1
            print("FAIL %s %s\n%s" % (name, " ".join(options), problem))
    print("%s: %d texts, %d variants, %d failed" % (what, len(names), len(work), failures))
    sys.exit(1 if failures else 0)


main()
