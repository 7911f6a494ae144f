#!/usr/bin/env python3
"""Is every kernel of the texts launched by some case? Has the suite every kind of case?

    every_kernel.py OPCHECK CL_DIR [--under COMMAND] ARGUMENTS...    each of ARGUMENTS: those of one `opcheck kernels`, in one word
    every_kernel.py OPCHECK --kinds                                  attributes and numbers of operands, of all that --long has

Exit 1 names the kernels that none of these launches, or the kinds that only --long has; 77 where there is no device for one of them,
or no COMMAND.
"""
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

DEFINED = re.compile(r"^KERNEL\d+\((\w+)|__kernel[^;{]*?void\s+(\w+)\(", re.M)


def defined(folder):
    return {a or b for path in folder.rglob("*") if path.suffix in (".cl", ".h") for a, b in DEFINED.findall(path.read_text())}


def kinds(opcheck, *options):
    done = subprocess.run([opcheck, "kernels", *options], stdout=subprocess.PIPE, text=True, check=True)
    return {line[2:] for line in done.stdout.splitlines() if line.startswith("= ")}


def check_kinds(opcheck):
    suite, long = kinds(opcheck), kinds(opcheck, "--long")
    print("%d kinds of cases, %d in the long set" % (len(suite), len(long)))
    for kind in sorted(long - suite):
        print("FAIL: not in the suite:", kind)
    return 1 if long - suite or not suite else 0


def main():
    opcheck, folder, *runs = sys.argv[1:]
    if folder == "--kinds":
        return check_kinds(opcheck)
    prefix = []
    if runs[0] == "--under":
        prefix = [runs[1]]
        runs = runs[2:]
        if not shutil.which(prefix[0]):
            print("SKIP: no", prefix[0])
            return 77
    launched = set()
    for arguments in runs:
        done = subprocess.run([*prefix, opcheck, "kernels", *shlex.split(arguments)], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            print(done.stdout[-2000:])
            return done.returncode
        launched |= {line for line in done.stdout.splitlines() if not line.startswith("= ")}
    known = defined(pathlib.Path(folder))
    missing, strange = sorted(known - launched), sorted(launched - known)
    print("%d kernels, %d of them launched" % (len(known), len(known & launched)))
    for what, names in (("no case launches", missing), ("not in the texts:", strange)):
        if names:
            print("FAIL:", what, " ".join(names))
    return 1 if missing or strange or not known else 0


if __name__ == "__main__":
    sys.exit(main())
