#!/usr/bin/env python3
"""Which lines and branches the tests reach.

    coverage.py BUILD-DIR [--no-tests] [--html FOLDER]

Sets BUILD-DIR up with gcov's counters (plain C, baseline instruction set, -O1), unless it is, runs the suites unit, ops-cpu,
model and cli there, and prints lines and branches reached, a folder a line; the kernel texts count once, whatever they are
compiled into. Needs gcovr (Debian's or PyPI's). What reads files of strangers must be reached in 95 of 100 lines: of these each
file is named with what it lacks, and the exit code is 1 if one has less.

--no-tests    report what is counted already    --html FOLDER    also gcovr's pages, line by line
"""
import argparse
import collections
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
SUITES = ["unit", "ops-cpu", "model", "cli"]
OPTIONS = ["--buildtype=debug", "-Doptimization=1", "-Db_coverage=true", "-Ddefault_library=static", "-Disas=[]",
           "-Dopencl=disabled", "-Dclblast=disabled", "-Dc_args=-fprofile-update=atomic"]  # threads count, too
LEAST = 95.0
STRANGERS = ["src/checkpoint/", "src/data/png.c", "src/data/jpeg.c", "src/data/picture.c", "src/data/folder.c", "src/data/dataset_open.c",
             "src/data/dataset.c", "src/data/pixel_cache.c", "src/data/resize.c", "src/data/classes.c", "src/train/config.c",
             "src/train/data_config.c", "src/model/config_json.c", "src/device/tuning.c", "src/device/cache.c", "src/base/file.c",
             "src/base/folder.c", "tools/lunette/args.c"]


def part(have, all_):
    return 100.0 * have / all_ if all_ else 100.0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--no-tests", action="store_true")
    parser.add_argument("--html", type=pathlib.Path)
    options = parser.parse_args()
    gcovr = shutil.which("gcovr", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]))
    if not gcovr:
        sys.exit("coverage.py: no gcovr here (Debian: gcovr; PyPI: gcovr)")
    build = options.directory.resolve()
    if not (build / "build.ninja").exists():
        subprocess.run(["meson", "setup", build, ROOT, *OPTIONS], check=True)
    failed = False
    if not options.no_tests:
        for old in build.rglob("*.gcda"):
            old.unlink()
        subprocess.run(["ninja", "-C", build], check=True)
        words = [word for suite in SUITES for word in ("--suite", suite)]
        failed = subprocess.run(["meson", "test", "-C", build, "--no-rebuild", "--timeout-multiplier", "8", *words]).returncode != 0
    with tempfile.NamedTemporaryFile(suffix=".json") as summary:
        pages = []
        if options.html:
            options.html.mkdir(parents=True, exist_ok=True)
            pages = ["--html-details", options.html / "index.html"]
        subprocess.run([gcovr, "--root", ROOT, "--filter", "src/", "--filter", "cl/", "--filter", "tools/", "--json-summary", summary.name,
                        "--gcov-ignore-parse-errors=all", "--exclude-unreachable-branches", *pages, build], check=True, stdout=subprocess.DEVNULL)
        files = json.load(open(summary.name))["files"]
    folders = collections.defaultdict(lambda: [0, 0, 0, 0])
    for file in files:
        name = file["filename"]
        numbers = (file["line_covered"], file["line_total"], file["branch_covered"], file["branch_total"])
        for key in (os.path.dirname(name), "all"):
            folders[key] = [a + b for a, b in zip(folders[key], numbers)]
    print("%-24s %8s %8s   %8s %8s" % ("folder", "lines", "reached", "branches", "reached"))
    for name in sorted(folders, key=lambda n: (n == "all", n)):
        lines, all_lines, branches, all_branches = folders[name]
        print("%-24s %8d %7.1f%%   %8d %7.1f%%" % (name, all_lines, part(lines, all_lines), all_branches, part(branches, all_branches)))
    print("\nfiles that read what strangers wrote:")
    less = 0
    for file in sorted(files, key=lambda f: f["filename"]):
        name, have = file["filename"], part(file["line_covered"], file["line_total"])
        if any(name.startswith(s) for s in STRANGERS):
            less += have < LEAST
            print("%-36s %5d lines %6.1f%%   %5d branches %6.1f%%%s" % (name, file["line_total"], have, file["branch_total"],
                  part(file["branch_covered"], file["branch_total"]), "   BELOW %g %%" % LEAST if have < LEAST else ""))
    print("%d below %g %% of lines%s" % (less, LEAST, "; tests failed" if failed else ""))
    return 1 if less or failed else 0


if __name__ == "__main__":
    sys.exit(main())
