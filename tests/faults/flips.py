#!/usr/bin/env python3
"""One wrong bit in one result of one launch is seen by `lunette doctor` and by `--device check`.

    flips.py LUNETTE ICD [--stride N] [--bits A,B]

On the stub platform (stub.h), which computes rightly but for one bit of one word in the middle of what one launch changes: every N-th launch of a
doctor's run and of a checked training, each bit. Exit 5 with the op's name is asked for wherever the host can have read something else than
without the fault; elsewhere (padding of packed filters, say) no result is wrong. For bits of a fraction the comparison's tolerance
decides; those above it, sign and exponent, must all be seen, and of the top fraction bit nearly all.
"""
import argparse
import collections
import os
import pathlib
import subprocess
import sys
import tempfile

NET = "--preset notebook --size 8 --channels 4,4 --batch 2".split()
RUNS = {
    "doctor": ["doctor", "--device", "opencl", *NET],
    "check": ["train", "pictures", "--out", "run", "--device", "check:cpu,opencl", "--threads", "1", *NET,
              *"--steps 2 --checkpoint-every 0 --sample-every 0 --diffusion-steps 20 --tune off --no-doctor".split()],
}


def run(args, root, argv, extra):
    """-> exit code, all it said, what the platform reports"""
    env = {"PATH": os.environ.get("PATH", ""), "HOME": str(root), "LUNETTE_CACHE": str(root / "cache"), "OCL_ICD_VENDORS": str(root / "vendors"),
           "STUB_REPORT": str(root / "report"), **extra}
    (root / "report").unlink(missing_ok=True)
    done = subprocess.run([args.lunette, *argv], cwd=root, env=env, capture_output=True, text=True, timeout=120)
    subprocess.run(["rm", "-rf", str(root / "run")], check=True)
    report = dict(l.removeprefix("stub ").split(" ", 1) for l in (root / "report").read_text().splitlines())
    return done.returncode, done.stdout + done.stderr, report


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("lunette")
    parser.add_argument("icd")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--bits", default="31,30,23,22,16,8")
    args = parser.parse_args()
    args.lunette, args.icd = os.path.abspath(args.lunette), os.path.abspath(args.icd)  # they run elsewhere
    failed = 0
    with tempfile.TemporaryDirectory(prefix="lunette-flips-") as folder:
        root = pathlib.Path(folder)
        (root / "vendors").mkdir()
        (root / "vendors/stub.icd").write_text(args.icd + "\n")
        run(args, root, ["doctor", "--device", "opencl", *NET], {})
        subprocess.run([args.lunette, *"craters pictures --count 4 --size 8".split()], cwd=root, check=True, capture_output=True)
        for name, argv in RUNS.items():
            code, said, report = run(args, root, argv, {})
            if code != 0:
                sys.exit("%s: exit %d without a fault: %s" % (name, code, said))
            right, launches = report["read"], int(report["launches"])
            for bit in map(int, args.bits.split(",")):
                seen, unread, missed = 0, 0, []
                for k in range(1, launches + 1, args.stride):
                    code, said, report = run(args, root, argv, {"STUB_FLIP": str(k), "STUB_BIT": str(bit)})
                    if "flipped" not in report:
                        unread += 1  # a launch that changes nothing
                    elif code == 5 and ("WRONG: " in said or "check: " in said):
                        seen += 1
                    elif code == 0 and report["read"] == right:
                        unread += 1
                    else:
                        missed.append("exit %d, %s" % (code, report["flipped"]))
                total = seen + len(missed)
                allowed = 0 if bit > 22 else total // 10 if bit == 22 else total
                verdict = "" if len(missed) <= allowed and seen > 0 else "  WRONG"
                failed += verdict != ""
                print("%-6s bit %2d: %d launches, %d seen, %d missed, %d in what nobody reads%s" % (name, bit, total + unread, seen, len(missed), unread, verdict), flush=True)
                for what in missed[:8] if bit >= 22 else []:
                    print("    " + what)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
