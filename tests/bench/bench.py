#!/usr/bin/env python3
"""Measure lunette on this machine: bench.py LUNETTE

Prints tables of whole steps, against a peer if there is one, of how cost grows with the work, and of the single ops. The
machine should do nothing else meanwhile; its load is printed at both ends. From the environment:

  LUNETTE_BENCH_QUICK=1      a small network and few sizes: to try the script, not to measure
  LUNETTE_BENCH_PARTS=A,B    of steps, isa, growth, ops (all)
  LUNETTE_BENCH_DEVICES=A,B  of cpu, opencl (both; one that cannot be opened is left out, with the reason)
  LUNETTE_BENCH_PAIRS=N      rounds (5); in each, ours and the peer run once, in turns
  LUNETTE_BENCH_STEPS=N      timed steps a run (5)
  LUNETTE_BENCH_PYTHON=PATH  an interpreter with PyTorch, and
  LUNETTE_BENCH_PEER=PATH    a script for it that takes "train|sample --batch N --size N --steps N --threads N [--compile]" and
                             prints a JSON object with images_per_s and peak_bytes
  LUNETTE_BENCH_OUT=FILE     every single measurement as a line of JSON
"""
import json
import os
import statistics
import subprocess
import sys

QUICK = os.environ.get("LUNETTE_BENCH_QUICK", "") not in ("", "0")
PAIRS = int(os.environ.get("LUNETTE_BENCH_PAIRS", 2 if QUICK else 5))
STEPS = int(os.environ.get("LUNETTE_BENCH_STEPS", 2 if QUICK else 5))
PARTS = os.environ.get("LUNETTE_BENCH_PARTS", "steps,isa,growth,ops").split(",")
DEVICES = os.environ.get("LUNETTE_BENCH_DEVICES", "cpu,opencl").split(",")
PYTHON, PEER = os.environ.get("LUNETTE_BENCH_PYTHON"), os.environ.get("LUNETTE_BENCH_PEER")
OUT = os.environ.get("LUNETTE_BENCH_OUT")
SIZE = 16 if QUICK else 64
CHANNELS = ["--channels", "8,16,32"] if QUICK else []
WORKS = [("train", 16), ("sample", 16), ("sample", 1)]

lunette = sys.argv[1] if len(sys.argv) == 2 else sys.exit(__doc__)
absent = {}  # what could not be run, with the reason


def record(line):
    if OUT:
        with open(OUT, "a") as out:
            out.write(json.dumps(line) + "\n")


def run(name, command, env=None):
    """The JSON object that `command` prints; None, from then on without trying, if it fails."""
    if name in absent:
        return None
    done = subprocess.run(command, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = json.loads(done.stdout) if done.returncode == 0 else None
    except ValueError:
        line = None
    if line is None:
        last = (done.stderr.strip() or "no output").splitlines()[-1]
        absent[name] = "%s (exit %d)" % (last, done.returncode)
        print("left out: %s: %s" % (name, absent[name]), flush=True)
        return None
    record({"name": name, **line})
    return line


def ours(mode, device, batch, size, isa=None, steps=STEPS):
    name = device + (" " + isa if isa else "")
    command = [lunette, "bench", mode, "--device", device, "--batch", str(batch), "--size", str(size), "--steps", str(steps), "--json"]
    return run(name, command + CHANNELS, {"LUNETTE_ISA": isa} if isa else None)


def peer(mode, batch, threads, compiled):
    command = [PYTHON, PEER, mode, "--batch", str(batch), "--size", str(SIZE), "--steps", str(STEPS), "--threads", str(threads)]
    return run("peer compiled" if compiled else "peer", command + (["--compile"] if compiled else []))


def spread(values):
    """Median and range."""
    return "%9.4g (%.4g to %.4g)" % (statistics.median(values), min(values), max(values))


def heading(text):
    print("\n" + text + "\n" + "-" * len(text), flush=True)


def pairs(mode, batch, variants):
    """Rounds of ours and the peer in turns; `variants` are (device, instruction set)."""
    heading("%s, batch %d, %dx%d: images a second, %d rounds" % (mode, batch, SIZE, SIZE, PAIRS))
    rates, memory, ratios, of_memory = {}, {}, {}, {}
    for _ in range(PAIRS):
        mine, threads = {}, os.cpu_count()
        for device, isa in variants:
            line = ours(mode, device, batch, SIZE, isa)
            if line:
                mine[device + (" " + isa if isa else "")] = line
                threads = line["threads"]
        theirs = {}
        if PYTHON and PEER:
            for compiled in (False, True):
                line = peer(mode, batch, threads, compiled)
                if line:
                    theirs["peer compiled" if compiled else "peer"] = line
        for name, line in {**mine, **theirs}.items():
            rates.setdefault(name, []).append(line["images_per_s"])
            memory.setdefault(name, []).append(line["peak_bytes"])
        if theirs:
            best = max(theirs.values(), key=lambda line: line["images_per_s"])
            for name, line in mine.items():
                ratios.setdefault(name, []).append(line["images_per_s"] / best["images_per_s"])
                of_memory.setdefault(name, []).append(line["peak_bytes"] / best["peak_bytes"])
    for name in rates:
        text = "%-16s %s  peak %6.0f MB" % (name, spread(rates[name]), 1e-6 * statistics.median(memory[name]))
        if name in ratios:
            text += "  of the better peer: %s x, memory %.2f x" % (spread(ratios[name]).strip(), statistics.median(of_memory[name]))
        print(text)
    return rates


def fit(points):
    """a, b and the worst relative deviation of a + b x from y, by least squares of the relative deviations."""
    w = [(1 / (y * y), x, y) for x, y in points]
    s = sum(k for k, _, _ in w)
    sx, sy = sum(k * x for k, x, _ in w), sum(k * y for k, _, y in w)
    sxx, sxy = sum(k * x * x for k, x, _ in w), sum(k * x * y for k, x, y in w)
    b = (s * sxy - sx * sy) / (s * sxx - sx * sx)
    a = (sy - b * sx) / s
    return a, b, max(abs(a + b * x - y) / y for x, y in points)


def tune(device, mode, batch, size):
    """What 'train' does before its first step: measure the kernels at these shapes, for half a minute at most."""
    command = [lunette, "tune", "--device", device, "--for", mode, "--batch", str(batch), "--size", str(size), "--seconds", "30"]
    subprocess.run(command + CHANNELS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def growth(device, mode, passes_s):
    """Time and memory over images x pixels."""
    batches = (1, 2, 4) if QUICK else (1, 2, 4, 8, 16, 32, 64)
    sizes = (8, 16, 32) if QUICK else (32, 64, 128, 256)
    series = [("batch", [(n, SIZE) for n in batches]), ("side", [(4, n) for n in sizes])]
    for name, places in series:
        heading("growth with the %s: %s on %s" % (name, mode, device))
        rows = []
        for batch, size in places:
            tune(device, mode, batch, size)
            line = ours(mode, device, batch, size)
            if not line:
                return
            rows.append((batch, size, batch * size * size, line["step_s"], line["peak_bytes"]))
        a, b, worst = fit([(x, t) for _, _, x, t, _ in rows])
        ma, mb, mworst = fit([(x, m) for _, _, x, _, m in rows])
        print("%6s %5s %12s %12s %10s %10s %10s" % ("batch", "side", "pixels", "s a step", "fit off", "peak MB", "fit off"))
        for batch, size, x, t, m in rows:
            print("%6d %5d %12d %12.5f %9.1f%% %10.1f %9.1f%%" % (batch, size, x, t, 100 * (a + b * x - t) / t, 1e-6 * m, 100 * (ma + mb * x - m) / m))
        print("time   = %.5f s + %.4g s a pixel, off by %.1f %% at worst" % (a, b, 100 * worst))
        print("memory = %.1f MB + %.4g bytes a pixel, off by %.1f %% at worst" % (1e-6 * ma, mb, 100 * mworst))
        if passes_s:
            print("the constant part is %.2f times what passing over the parameters' bytes must take (%.5f s)" % (a / passes_s, passes_s))


def ops(device, batch):
    """The table of single ops, and the floor.

    Returns the seconds that a step's passes over the parameters take at the speed of copying, or None: seven by the update
    (which reads parameter, gradient and two moments, and writes all but the gradient), and one each forward, for the
    gradients of the activations and for writing those of the parameters.
    """
    command = [lunette, "bench", "ops", "--device", device, "--batch", str(batch), "--size", str(SIZE), "--steps", str(STEPS)] + CHANNELS
    line = run(device, command + ["--json"])
    if not line:
        return None
    if "ops" in PARTS:
        heading("ops of a training step, batch %d: %s" % (batch, device))
        print(subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout, end="")
    update = sum(op["mb"] for op in line["ops"] if op["direction"] == "update")
    return 1e-3 * update * 10 / 7 / line["copy_gb_s"] if line["copy_gb_s"] else None


def main():
    print("load %.2f at the start, %d processors" % (os.getloadavg()[0], os.cpu_count()))
    if not (PYTHON and PEER):
        print("no peer: LUNETTE_BENCH_PYTHON and LUNETTE_BENCH_PEER are not both set")
    elif QUICK:
        print("quick: ours is another network than the peer's, the ratios mean nothing")
    if "steps" in PARTS:
        for mode, batch in WORKS:
            pairs(mode, batch, [(device, None) for device in DEVICES])
    if "isa" in PARTS and "cpu" in DEVICES:
        for mode, batch in WORKS:
            pairs(mode, batch, [("cpu", isa) for isa in ("avx512", "avx2", "baseline")])
    if "growth" in PARTS or "ops" in PARTS:
        for device in DEVICES:
            passes_s = ops(device, WORKS[0][1])
            if "growth" in PARTS:
                growth(device, "train", passes_s)
                growth(device, "sample", None)
    print("\nload %.2f at the end" % os.getloadavg()[0])
    return 0 if len(absent) < len(DEVICES) or "cpu" not in absent else 1


sys.exit(main())
