#!/usr/bin/env python3
"""Every call of lunette that can fail, made to fail once.

    sweep.py LUNETTE SHIM [--icd ICD] [--stride N] [--kinds A,B] [--commands A,B] [--jobs N] [--at K] [--span A:B] [--trace]

For each command (train, resume, train with the kernels checked, sample, convert, verify) and each kind of fault a tiny run counts its calls; then the command runs once for
every N-th of them (every 10 N-th of the libraries' allocations), with that call failing. Afterwards it must have ended by itself, with the
exit code that the fault or signal deserves, one line of error or none, nothing held (memory, streams, descriptors, OpenCL objects), no temporary
file, and every file as it was before or as it is after an undisturbed run, byte for byte. A failed training then goes on without a fault,
and has to end with the undisturbed bytes.

SHIM is the library of shim.c and ICD that of icd.c and stub.h; both say what they do. Prints a line for each command and kind, and its findings below it.
"""
import argparse
import bisect
import collections
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

INTERNAL, USAGE, DATA, CHECKPOINT, DEVICE, MEMORY, STORAGE = range(1, 8)
SECONDS = 120  # a run takes a tenth of one
FILE_KINDS = ["eio", "enospc", "eintr", "short"]
# Kinds of faults: what the environment says.
KINDS = {
    "alloc": {"FAULT_KIND": "alloc"},
    "alloc-on": {"FAULT_KIND": "alloc", "FAULT_ON": "1"},
    "alloc-libs": {"FAULT_KIND": "alloc", "FAULT_FROM": "libs"},
    "thread": {"FAULT_KIND": "thread"},
    **{kind: {"FAULT_KIND": kind, "FAULT_FROM": "all"} for kind in FILE_KINDS},
    "term": {"FAULT_KIND": "term"},
    "term-on": {"FAULT_KIND": "term", "FAULT_ON": "1"},
    "usr1": {"FAULT_KIND": "usr1"},
    "enospc-on": {"FAULT_KIND": "enospc", "FAULT_FROM": "all", "FAULT_ON": "1"},
}
# Signals that come right before a call: what they may end the command with. Before it catches them they kill it; term-on sends another
# one at the next call, which ends it at once.
SIGNALS = {"term": {143, -15}, "term-on": {143, -15}, "usr1": {-10}}
CL_KINDS = {
    "cl": {"STUB_ERROR": "resources"},
    "cl-memory": {"STUB_ERROR": "memory"},
    "cl-on": {"STUB_ERROR": "lost", "STUB_ON": "1"},
    "cl-status": {"STUB_ERROR": "status"},
}


class Command:
    """argv: what runs; before: what runs first, in the folder that every trial begins with; again: what leads a failed trial to the
    undisturbed result, given the folder (None: nothing does)."""

    def __init__(self, name, argv, before, again=None):
        self.name, self.argv, self.before, self.again = name, argv, before, again


def commands(device):
    craters = "craters pictures --count 4 --size 8".split()
    run = ["train", "pictures", "--out", "run", "--device", device, "--threads", "1", "--checkpoint-every", "1", "--tune", "off", "--no-doctor"]
    new = [*run, *"--preset notebook --size 8 --channels 4,4 --batch 2 --diffusion-steps 20 --ema 0.9".split()]
    first = [*new, "--steps", "1", "--sample-every", "0"]
    whole = [*new, "--steps", "2", "--sample-every", "1"]
    resume = [*run, "--resume", "--steps", "2", "--sample-every", "1"]
    vetted = [a for a in first if a != "--no-doctor"]
    vetted[vetted.index("off")] = "known"
    unet = [*run, *"--preset tiny --size 8 --channels 4,4 --groups 2 --heads 1 --blocks 1 --batch 2 --diffusion-steps 20 --steps 1 --sample-every 0".split()]
    sample = ["sample", "run", "--device", device, *"--threads 1 --count 2 --batch 2 --steps 3 --out grid.png".split()]
    return [
        Command("train", whole, [craters], lambda at: resume if (at / "run/config.json").exists() else whole),
        Command("resume", resume, [craters, first], lambda at: resume),
        Command("vetted", vetted, [craters], lambda at: [*vetted[: len(run) - 1], "--resume"] if (at / "run/config.json").exists() else vetted),
        Command("sample", sample, [craters, first], lambda at: sample),
        Command("convert", "convert run pipeline --to diffusers".split(), [craters, unet]),
        Command("verify", "info run --verify".split(), [craters, first]),
    ]


def tree(root):
    """Every file by its path, with a digest of its bytes. The lock holds the number of a process."""
    files = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.name != "run.lock":
            files[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return files


class Symbols:
    """Function names of the executable, for findings."""

    def __init__(self, executable):
        text = subprocess.run(["nm", "-n", executable], capture_output=True, text=True).stdout
        pairs = [(int(a, 16), n) for a, kind, n in re.findall(r"^([0-9a-f]+) ([tTwW]) (\S+)$", text, re.M)]
        self.at, self.names = [a for a, n in pairs], [n for a, n in pairs]

    def of(self, address):
        i = bisect.bisect_right(self.at, address - 1) - 1
        return self.names[i] if i >= 0 else hex(address)

    def range(self, name):
        """The addresses of a function, LOW:HIGH."""
        i = self.names.index(name)
        return "%x:%x" % (self.at[i], next(a for a in self.at[i:] if a > self.at[i]))

    def text(self, line):
        return re.sub(r"@?0x([0-9a-f]+)", lambda m: "<" + self.of(int(m.group(1), 16)), line)


class Sweep:
    def __init__(self, args):
        self.args = args
        shared = pathlib.Path("/dev/shm")
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="lunette-faults-", dir=shared if os.access(shared, os.W_OK) else None))
        self.symbols = Symbols(args.lunette)
        self.findings = collections.OrderedDict()  # what: [count, first line]
        self.trials = self.aborts = 0
        self.icd = None
        if args.icd:
            self.icd = self.root / "vendors"
            self.icd.mkdir()
            (self.icd / "stub.icd").write_text(args.icd + "\n")

    def environment(self, folder, extra):
        keep = {k: os.environ[k] for k in ("PATH", "LANG", "TMPDIR") if k in os.environ}
        mine = {"LUNETTE_CACHE": str(folder / "cache"), "HOME": str(folder), "FAULT_REPORT": str(folder.parent / (folder.name + ".report"))}
        mine["LD_PRELOAD"] = self.args.shim
        mine["FAULT_LIBS"] = self.symbols.range("malloc_for_jansson")
        mine["OCL_ICD_VENDORS"] = str(self.icd or self.root / "none")
        if self.icd:
            mine["STUB_REPORT"] = str(folder.parent / (folder.name + ".stub"))
        if self.args.trace:
            mine["FAULT_TRACE"] = "1"
        return {**keep, **mine, **extra}

    def run(self, folder, argv, extra):
        """-> exit code (negative: a signal, None: too long), stderr, report lines"""
        env = self.environment(folder, extra)
        for name in ("FAULT_REPORT", "STUB_REPORT"):
            if name in env:
                pathlib.Path(env[name]).unlink(missing_ok=True)
        process = subprocess.Popen([self.args.lunette, *argv], cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=SECONDS)
            code = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            code = None
        report = []
        for name in ("FAULT_REPORT", "STUB_REPORT"):
            if name in env and os.path.exists(env[name]):
                report += pathlib.Path(env[name]).read_text().splitlines()
        return code, out.decode(errors="replace"), err.decode(errors="replace"), report

    def must(self, folder, argv):
        code, _, err, _ = self.run(folder, argv, {})
        if code != 0:
            sys.exit("%s: exit %s without a fault: %s" % (" ".join(argv), code, err))

    def prepare(self, command):
        start = self.root / "start"
        shutil.rmtree(start, ignore_errors=True)
        start.mkdir()
        for argv in command.before:
            self.must(start, argv)
        shutil.rmtree(start / "cache", ignore_errors=True)
        self.start, self.before = start, tree(start)
        after = []
        for i in range(2):
            folder = self.root / ("whole%d" % i)
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(start, folder)
            code, _, err, report = self.run(folder, command.argv, {})
            if code != 0 or "blocks 0" not in report or any(l.startswith("open") for l in report):
                sys.exit("%s: without a fault: exit %s, %s, %s" % (command.name, code, err, [self.symbols.text(l) for l in report]))
            after.append(tree(folder))
        # What two undisturbed runs agree in: all but times and speeds.
        self.after = {n: digest for n, digest in after[0].items() if after[1].get(n) == digest and not n.startswith("cache/")}
        self.loose = set(after[0]) - set(self.after)

    def count(self, command, kind, extra):
        folder = self.root / "count"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.start, folder)
        code, _, err, report = self.run(folder, command.argv, extra)
        label = "stub events" if kind == "cl-status" else "stub calls" if kind in CL_KINDS else "calls"
        return next((int(l.split()[-1]) for l in report if l.startswith(label + " ")), 0)  # 0: it asks no OpenCL

    def expected(self, kind, path, call, fired):
        """The exit codes besides 0 that the fault may lead to."""
        if kind in SIGNALS:
            return SIGNALS[kind]
        if kind.startswith("alloc"):
            return {MEMORY}
        if kind == "thread":
            return {MEMORY, INTERNAL}
        if kind in CL_KINDS:
            return {DEVICE, MEMORY}
        if kind == "enospc-on":
            return {STORAGE}
        if path.startswith(("pictures", "./pictures")):
            return {DATA, USAGE}  # a folder named on the command line, or what is in it
        if (call == "lstat" or path.startswith("run/checkpoints")) and "lun_runfolder_holds_run" in self.symbols.text(fired):
            return {USAGE, STORAGE}  # what cannot be told to be missing counts as there
        if path.endswith("config.json") and not ".tmp." in path:
            return {USAGE, CHECKPOINT, STORAGE}
        # A checkpoint that cannot be read is one; what is written there is storage.
        if ".safetensors" in path and call in ("open", "openat", "read", "pread", "fstat", "stat", "lstat"):
            return {CHECKPOINT, STORAGE}
        return {STORAGE}

    def files(self, folder, code, said, kind, call, path):
        """What is wrong with the files."""
        now = tree(folder)
        killed = code is None or code < 0 or kind == "term-on"  # nothing is cleared away: the next start does it
        for name, digest in now.items():
            if ".tmp." in name and killed:
                pass
            elif ".tmp." in name:
                # A folder is listed to be removed, which takes memory: where there never is any, the next run removes it.
                if not call.startswith("unlink") and not (kind == "alloc-on" and name.startswith(".")):
                    yield "left a temporary file: " + re.sub(r"\d+$", "N", name)
            elif name.endswith("log.jsonl"):
                text = (folder / name).read_text()
                if text and not text.endswith("\n"):
                    yield "half a line in " + name
                for line in text.splitlines():
                    json.loads(line)
            elif name.startswith("cache/"):
                pass  # keyed by the folder's name and times; what goes on after a failure uses it
            elif name in self.loose or name == "run/loss.png":  # drawn at each checkpoint
                if name.endswith(".png") and (folder / name).read_bytes()[-8:-4] != b"IEND":
                    yield "half a picture: " + name
            elif digest not in (self.before.get(name), self.after.get(name)):
                unnamed = name == "run/config.json" and path == "/proc/cpuinfo"  # the record names the processor
                fewer = name.startswith("run/") and "1 skipped" in said
                if not unnamed and not fewer:
                    yield "neither as before nor as after: " + name
        for name in self.before:
            if name not in now and name in self.after:
                yield "gone: " + name
        for name in now:
            match = re.fullmatch(r"(run/checkpoints/step-\d+)\.safetensors", name)
            if match and not killed and any(match.group(1) + part not in now for part in (".optimizer.safetensors",)):
                yield "weights without their optimiser: " + name
        if code == 0:
            for name in self.after:
                if name not in now:
                    yield "exit 0 without " + name

    def trial(self, command, kind, extra, k):
        folder = self.root / ("trial%d" % k)
        shutil.copytree(self.start, folder)
        at = {"STUB_AT" if kind in CL_KINDS else "FAULT_AT": str(k)}
        code, out, err, report = self.run(folder, command.argv, {**extra, **at})
        fired = next((l for l in report if l.startswith("fired ") or l.startswith("stub fired ")), "")
        words = fired.removeprefix("stub ").split()
        call = words[1] if len(words) > 1 else "?"
        path = words[2] if len(words) > 2 and not words[2].startswith("@") else ""
        errors = [l for l in err.splitlines() if l.startswith("lunette: error: ")]
        wrong = []
        if code is None:
            wrong.append("never ends")
        elif code == -6 and kind == "alloc-libs" and "lun_json_parse" in self.symbols.text(fired):
            self.aborts += 1  # jansson 2.14: an assert() of its lexer where a token's buffer cannot grow
        elif code < 0 and code not in SIGNALS.get(kind, ()):
            wrong.append("killed by signal %d" % -code)
        elif code == 0:
            if errors:
                wrong.append("exit 0 with an error")
        else:
            if code not in self.expected(kind, path, call, fired):
                wrong.append("exit %d" % code)
            if len(errors) != (0 if kind in SIGNALS else 1):
                wrong.append("%d lines of error" % len(errors))
        if code != 0 and kind in ("eintr", "short"):
            wrong.append("exit %s for what is no failure" % code)
        if code is not None and code >= 0:
            # (The second signal may end the process while the thread of the first is about to write.)
            if not fired and kind != "term-on" and not any(l.startswith("calls") for l in report):
                wrong.append("no report")
            for l in report:
                if (l.startswith("blocks ") and l != "blocks 0") or (l.startswith("stub live ") and not l.endswith(" 0")):
                    wrong.append(l)
                elif l.startswith(("open ", "held ")):
                    wrong.append(self.symbols.text(l))
        wrong += self.files(folder, code, out, kind, call, path)
        if command.again and not wrong and code != 0 and (kind not in ("alloc", "alloc-libs") or k % 5 == 0):
            argv = command.again(folder)
            code2, _, err2, _ = self.run(folder, argv, {})
            if code2 != 0:
                wrong.append("afterwards %s: exit %s: %s" % (argv[0], code2, err2.strip()[-200:]))
            else:
                now = tree(folder)
                wrong += ["afterwards other bytes: " + n for n in self.after if now.get(n) != self.after[n]]
        shutil.rmtree(folder)
        return k, code, fired, path, call, wrong, errors

    def sweep(self, command, kind, extra):
        total = self.count(command, kind, extra)
        # jansson asks for memory at every word of a header: there every tenth as many.
        stride = self.args.stride * (10 if kind == "alloc-libs" else 1)
        first, last = map(int, self.args.span.split(":")) if self.args.span else (1, total)
        numbers = [self.args.at] if self.args.at else range(first + hash_of(command.name, kind) % stride, min(last, total) + 1, stride)
        codes, bad, begun, mapped = collections.Counter(), 0, time.time(), collections.Counter()
        with concurrent.futures.ThreadPoolExecutor(self.args.jobs) as pool:
            for k, code, fired, path, call, wrong, errors in pool.map(lambda k: self.trial(command, kind, extra, k), numbers):
                codes[code] += 1
                self.trials += 1
                mapped[call, re.sub(r"\d+", "N", path), code] += 1
                if self.args.at:
                    print(k, code, self.symbols.text(fired), errors)
                bad += bool(wrong)
                for what in wrong:
                    site = " ".join(self.symbols.text(fired).split()[1:])
                    entry = self.findings.setdefault((command.name, kind, what, re.sub(r"\d+", "N", site)), [0, k, errors[:1]])
                    entry[0] += 1
        told = ", ".join("exit %s: %d" % (c, n) for c, n in sorted(codes.items(), key=str))
        print("%-8s %-10s %5d calls, %5d tried, %d wrong; %s; %.0f s" % (command.name, kind, total, sum(codes.values()), bad, told, time.time() - begun), flush=True)
        for (name, which, what, site), (count, k, errors) in self.findings.items():
            if (name, which) == (command.name, kind):
                print("  WRONG, %d times, first --at %d: %s; failed: %s; said: %s" % (count, k, what, site, " ".join(errors)), flush=True)
        if self.args.table:
            for (call, path, code), n in sorted(mapped.items(), key=str):
                print("    %-12s %-60s exit %s  %d" % (call, path, code, n))

    def all(self):
        kinds = {**KINDS, **(CL_KINDS if self.icd else {})}
        chosen = self.args.kinds.split(",") if self.args.kinds else list(CL_KINDS if self.icd else KINDS)
        device = "opencl" if self.icd else "cpu"
        for command in commands(device):
            if self.args.commands and command.name not in self.args.commands.split(","):
                continue
            self.prepare(command)
            for kind in chosen:
                self.sweep(command, kind, kinds[kind])
        print("%d trials, %d kinds of findings%s" % (self.trials, len(self.findings), ", %d aborts inside jansson" % self.aborts if self.aborts else ""))
        shutil.rmtree(self.root)
        return 1 if self.findings or not (self.trials or self.args.span) else 0


def hash_of(*words):
    return int(hashlib.sha256("/".join(words).encode()).hexdigest()[:8], 16)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("lunette")
    parser.add_argument("shim")
    parser.add_argument("--icd")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--kinds")
    parser.add_argument("--commands")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--at", type=int, help="only this call")
    parser.add_argument("--span", help="only the calls from A to B, as A:B")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--table", action="store_true", help="which call on which path led to which exit code")
    args = parser.parse_args()
    for name in ("lunette", "shim", "icd"):  # they run in folders of their own
        if getattr(args, name):
            setattr(args, name, os.path.abspath(getattr(args, name)))
    sys.exit(Sweep(args).all())


if __name__ == "__main__":
    main()
