#!/usr/bin/env python3
"""Build-time generator: turns the kernel texts into C.

    embed.py texts OUT.c CL_DIR FILE.cl ...   every text, its #include "..." pasted in, as a table of strings
    embed.py kernels OUT.c CL_DIR FILE.cl     one text for plain C: includes it, then a table of every KERNELn(name, ...)
    embed.py index OUT.c CL_DIR FILE.cl ...   for plain C: the table of those tables
    embed.py hash OUT.c CL_DIR DIR            one number for all texts in CL_DIR and the sources in DIR, which say how they are used

The C is compiled once an instruction set, LUN_CPU_ISA naming it.
"""
import hashlib
import pathlib
import re
import sys


def paste(path, root, seen):
    """The text of `path` with each local header pasted in once."""
    lines = []
    for line in path.read_text().splitlines():
        match = re.match(r'\s*#include "([^"]+)"', line)
        if not match:
            lines.append(line)
            continue
        header = root / match.group(1)
        if header not in seen:
            seen.add(header)
            lines += paste(header, root, seen)
    return lines


def c_string(lines):
    quoted = []
    for line in lines:
        text = line.rstrip().replace("\\", "\\\\").replace('"', '\\"').replace("\t", "    ")
        quoted.append('    "%s\\n"' % text)
    return "\n".join(quoted)


def stem(name):
    return re.sub(r"\W", "_", name.removesuffix(".cl"))


def main():
    what, out, root, files = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), sys.argv[4:]
    if what == "texts":
        parts = ["/* Made by tools/embed.py. */", '#include "device/kernel_texts.h"', "", "const lun_kernel_text lun_kernel_texts[] = {"]
        for name in files:
            parts.append('{"%s",\n%s},' % (name, c_string(paste(root / name, root, set()))))
        parts.append("{0, 0}};")
    elif what == "kernels":
        parts = ["/* Made by tools/embed.py. */", '#include "device/cpu/kernels.h"', "", '#include "%s"' % files[0], ""]
        parts.append("const lun_cpu_kernel LUN_CPU_NAME(%s)[] = {" % stem(files[0]))
        text = "\n".join(paste(root / files[0], root, set()))
        parts += ['    {"%s", %s},' % (kernel, kernel) for kernel in re.findall(r"^KERNEL\d\((\w+),", text, re.M)]
        parts.append("    {0, 0}};")
    elif what == "hash":
        digest = hashlib.sha256()
        for path in sorted(p for folder in (root, pathlib.Path(files[0])) for p in folder.rglob("*") if p.suffix in (".cl", ".h", ".c")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        parts = ["/* Made by tools/embed.py. */", '#include "device/tune.h"', "", 'const char lun_kernel_hash[] = "%s";' % digest.hexdigest()[:16]]
    else:
        parts = ["/* Made by tools/embed.py. */", '#include "device/cpu/kernels.h"', ""]
        parts += ["extern const lun_cpu_kernel LUN_CPU_NAME(%s)[];" % stem(name) for name in files]
        parts.append("\nconst lun_cpu_text LUN_CPU_NAME(texts)[] = {")
        parts += ['    {"%s", LUN_CPU_NAME(%s)},' % (name, stem(name)) for name in files]
        parts.append("    {0, 0}};")
    # Left alone where it is so already: a change of a header makes every text anew, and only those that hold it differ.
    made, path = "\n".join(parts) + "\n", pathlib.Path(out)
    if not path.exists() or path.read_text() != made:
        path.write_text(made)


if __name__ == "__main__":
    main()
