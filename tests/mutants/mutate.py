#!/usr/bin/env python3
"""Plants mistakes into a copy of the sources, one at a time, and asks the tests whether they notice.

    mutate.py BUILD-DIR [--only A,B] [--jobs N] [--check] [--no-wide]

The mistakes stand in table.py: a file, the exact old text, the new one, and the small test that should notice. A copy of the
tracked files is kept in BUILD-DIR/tree and built in BUILD-DIR/build (-O1, plain C for the baseline instruction set, OpenCL where
there is any), so that a mutant costs the compilation of what it touches and one program. Kernel texts reach the tests in two
ways: plain C compiles them into the library (meson rebuilds what tools/embed.py makes of a changed text), and OpenCL reads them
from $LUNETTE_KERNELS, which needs no build at all.

Every test that the table names must pass on the sources as they are: else its failure would say nothing. A mutant is killed when
its test exits with another code than 0, is ended by a signal or takes ten times as long as it did; it survives when the test
passes and the wider suites (unit, ops-cpu, model) pass too. Killed by these alone is said apart: the small test is then not the
right one. An old text that is not in its file exactly once is an error of the table, and so is a mutant that does not compile.

--only A,B    mutants with A or B in their file or test      --check    look at the table, build nothing
--no-wide     leave the wider suites out                     --jobs N   compilers at a time (2)

Exit code: 0 all killed by the tests that they name, 1 some were not, 2 the table or the tests are wrong.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from table import MUTANTS

ROOT = pathlib.Path(__file__).resolve().parents[2]
PARTS = ["src", "include", "cl", "tools", "tests", "subprojects", "meson.build", "meson_options.txt", "README.md", "CONTRIBUTING.md", "NEWS.md", "LICENSE"]
WIDE = ["unit", "ops-cpu", "model"]
OPTIONS = ["--buildtype=debug", "-Doptimization=1", "-Ddebug=false", "-Ddefault_library=static", "-Disas=[]"]


def stop(text):
    print("mutate.py:", text, file=sys.stderr)
    sys.exit(2)


def tracked():
    """Paths of the tree that are built from; without git, all files that are no build's."""
    git = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *PARTS], capture_output=True)
    if git.returncode == 0:
        return [name for name in git.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    return [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file() and p.relative_to(ROOT).parts[0] in PARTS]


def synchronise(tree):
    """Bring the copy to what the sources are; files that are so already keep their time, so that nothing is built again."""
    names = tracked()
    for name in names:
        source, copy = ROOT / name, tree / name
        data = source.read_bytes()
        if not copy.exists() or copy.read_bytes() != data:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(data)
            shutil.copymode(source, copy)
    for copy in tree.rglob("*"):
        if copy.is_file() and "__pycache__" not in copy.parts and str(copy.relative_to(tree)) not in set_of(names):
            copy.unlink()


_sets = {}


def set_of(names):
    return _sets.setdefault(id(names), set(names))


def problems():
    """What is wrong with the table, a line each."""
    found, seen = [], set()
    for number, (file, old, new, test) in enumerate(MUTANTS, 1):
        path = ROOT / file
        count = path.read_text().count(old) if path.is_file() else -1
        if count != 1:
            found.append("mutant %d: %s: %s: %r" % (number, file, "no such file" if count < 0 else "%d times there" % count, old[:70]))
        if old == new or (file, old, new) in seen:
            found.append("mutant %d: %s: changes nothing, or is there twice" % (number, file))
        if test.split()[0] not in ("opcheck", "opencl", "unit", "model", "cli"):
            found.append("mutant %d: no such kind of test: %s" % (number, test))
        seen.add((file, old, new))
    return found


class Tests:
    def __init__(self, tree, build):
        self.tree, self.build, self.scratch = tree, build, tempfile.mkdtemp(prefix="lunette-mutants-")
        self.seconds = {}
        self.jobs = 2

    def close(self):
        shutil.rmtree(self.scratch, ignore_errors=True)

    def program(self, test):
        kind, *rest = test.split()
        if kind in ("opcheck", "opencl"):
            return "tests/opcheck/opcheck"
        if kind == "model":
            return "tests/model/test_model"
        return "tools/lunette/lunette" if kind == "cli" else "tests/unit/test_" + rest[0]

    def command(self, test):
        """The command, and what its environment has beside ours."""
        kind, *rest = test.split()
        program = self.build / self.program(test)
        # No OpenCL where it is not asked for: it would be tested a second time.
        env = {"CK_FORK": "no", "LUNETTE_CACHE": self.scratch, "LUN_TEST_SOURCE": str(self.tree / "tests/unit"), "OCL_ICD_VENDORS": self.scratch}
        if kind == "opencl":
            del env["OCL_ICD_VENDORS"]
            env["LUNETTE_KERNELS"] = str(self.tree / "cl")
            return [program, "test", "--device", "opencl", *rest], env
        if kind == "opcheck":
            return [program, *rest] if rest[0] == "grad" else [program, "test", "--device", "cpu", *rest], env
        if kind == "model":
            if rest:
                env["CK_RUN_CASE"] = rest[0]
            return [program, self.tree / "tests/model/golden", "cpu"], env
        if kind == "cli":
            return [self.tree / ("tests/cli/%s.sh" % rest[0]), program, *rest[1:]], env
        return [program], env

    def run(self, test):
        """None if the test passes, "skip", else what it did."""
        command, env = self.command(test)
        limit = max(20, 10 * self.seconds.get(test, 60))
        begun = time.monotonic()
        try:
            done = subprocess.run(command, env=os.environ | env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=limit,
                                  stdin=subprocess.DEVNULL, cwd=self.build)
        except subprocess.TimeoutExpired:
            return "time"
        self.seconds.setdefault(test, time.monotonic() - begun)
        code = done.returncode
        return None if code == 0 else "skip" if code == 77 else "signal %d" % -code if code < 0 else "exit %d" % code

    def make(self, *targets):
        done = subprocess.run(["ninja", "-C", self.build, "-j%d" % self.jobs, *targets], capture_output=True, text=True)
        return None if done.returncode == 0 else done.stdout[-2000:]

    def wide(self):
        """Do the wider suites notice?"""
        if self.make():
            return True
        env = os.environ | {"OCL_ICD_VENDORS": self.scratch, "LUNETTE_CACHE": self.scratch}
        suites = [word for suite in WIDE for word in ("--suite", suite)]
        done = subprocess.run(["meson", "test", "-C", self.build, "--no-rebuild", "--num-processes", str(self.jobs), "--maxfail", "1", *suites],
                              env=env, capture_output=True, text=True)
        return done.returncode != 0


def plant(tree, mutant):
    file, old, new, _ = mutant
    path = tree / file
    text = (ROOT / file).read_text()
    path.write_text(text.replace(old, new))


def heal(tree, mutant):
    (tree / mutant[0]).write_bytes((ROOT / mutant[0]).read_bytes())


def judge(tests, tree, mutant, wide):
    """killed, widely (killed by the wider suites only), alive, or broken."""
    test = mutant[3]
    plant(tree, mutant)
    try:
        if not test.startswith("opencl"):
            trouble = tests.make(tests.program(test))
            if trouble:
                return "broken", trouble
        how = tests.run(test)
        if how:
            return "killed", how
        if wide and not test.startswith("opencl") and tests.wide():
            return "widely", "by " + " or ".join(WIDE)
        return "alive", ""
    finally:
        heal(tree, mutant)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--no-wide", action="store_true")
    options = parser.parse_args()
    found = problems()
    if found:
        stop("the table is stale:\n  " + "\n  ".join(found))
    chosen = [m for m in MUTANTS if any(word in m[0] or word in m[3] for word in options.only.split(","))]
    print("%d mutants in the table, %d chosen" % (len(MUTANTS), len(chosen)), flush=True)
    if options.check:
        return 0

    directory = options.directory.resolve()
    tree, build = directory / "tree", directory / "build"
    tree.mkdir(parents=True, exist_ok=True)
    synchronise(tree)
    if not (build / "build.ninja").exists():
        done = subprocess.run(["meson", "setup", build, tree, *OPTIONS], capture_output=True, text=True)
        if done.returncode:
            stop("meson setup: " + done.stdout[-2000:])
    tests = Tests(tree, build)
    tests.jobs = options.jobs
    try:
        named = list(dict.fromkeys(m[3] for m in chosen))
        trouble = tests.make(*sorted(set(tests.program(t) for t in named)))
        if trouble:
            stop("the sources as they are do not build:\n" + trouble)
        skipped = set()
        for test in named:
            how = tests.run(test)
            if how == "skip":
                skipped.add(test)
            elif how:
                stop("on the sources as they are: %s: %s" % (test, how))
        print("%d tests pass on the sources as they are, %d cannot run here" % (len(named) - len(skipped), len(skipped)), flush=True)
        count = {"killed": 0, "widely": 0, "alive": 0, "broken": 0, "skipped": 0}
        # By test and file: what is compiled for one mutant and for its neighbour is then the same file, once.
        for mutant in sorted(chosen, key=lambda m: (m[0], m[3])):
            begun = time.monotonic()
            state, how = ("skipped", "") if mutant[3] in skipped else judge(tests, tree, mutant, not options.no_wide)
            count[state] += 1
            change = " ".join(mutant[1].split())
            print("%-8s %-10s %5.1f s  %-30s %-44s %s" % (state, how if state != "broken" else "", time.monotonic() - begun, mutant[0], mutant[3], change[:60]), flush=True)
            if state == "broken":
                print(how, flush=True)
    finally:
        tests.close()
    print("%d killed by the test that should, %d by the wider suites only, %d alive, %d broken, %d skipped"
          % tuple(count[k] for k in ("killed", "widely", "alive", "broken", "skipped")))
    return 2 if count["broken"] else 1 if count["widely"] or count["alive"] else 0


if __name__ == "__main__":
    sys.exit(main())
