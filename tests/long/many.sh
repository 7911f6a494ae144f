#!/bin/sh
# many.sh LUNETTE COUNT: a folder of so many pictures. What each takes of memory beside its pixels is bounded, by 400 bytes: measured as
# the difference to a tenth of them, with and without a cache; an address space that has room for that and no more is enough. Files that
# are no pictures take nothing, and bad ones a few lines.
count=$2
. "$(dirname "$0")/../cli/lib.sh"
net="--preset notebook --size 4 --channels 4,4 --batch 4 --device cpu --threads 2 --tune off --no-doctor --sample-every 0 --steps 3"

python3 - "$count" <<'END'
import os, struct, sys, zlib
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
count = int(sys.argv[1])
for folder, n in ("few", count // 10), ("many", count):
    for i in range(n):
        if i % 1000 == 0: # as people who have millions sort them; the last thousand lies in the folder itself
            at = "%s/%04d" % (folder, i // 1000) if i + 1000 < n else folder
            os.makedirs(at, exist_ok=True)
        rows = b"".join(b"\0" + struct.pack(">I", 0x10001 * i & 0xffffffff) * 3 for _ in range(4))
        with open("%s/picture-%07d.png" % (at, i), "wb") as f:
            f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b""))
os.mkdir("junk")
for i in range(count):
    open("junk/%d.txt" % i, "wb").close()
os.mkdir("bad")
for i in range(count // 10):
    open("bad/%d.png" % i, "wb").close()
END

# peak NAME ARGUMENTS...: the resident kB at most
peak()
{
    into=$1
    shift
    checks=$((checks + 1))
    python3 - "$LUNETTE" "$@" >$into.peak 2>err <<'END'
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=open("out", "wb")).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
END
    [ $? = 0 ] || fail "$into: it fails"
}

for way in "--cache decoded" "--cache decoded" --no-cache; do
    for folder in few many; do
        rm -rf run
        peak $folder train $folder --out run $net $way
    done
    bytes=$((($(cat many.peak) - $(cat few.peak)) * 1024 / (count - count / 10)))
    echo "$count pictures, $way: $(cat many.peak) kB at most, $bytes bytes a picture"
    check "$way: at most 400 bytes a picture" [ $bytes -le 400 ]
    check "all of them" grep -q "^data: $count pictures" out
done
# In an address space of what a tenth takes and that much for each.
rm -rf run
checks=$((checks + 1))
(
    ulimit -v $((300000 + count * 400 / 1024))
    exec "$LUNETTE" train many --out run $net --cache decoded >out 2>err </dev/null
) || fail "not in $((300000 + count * 400 / 1024)) kB of addresses"

peak none train few --out run2 $net
rm -rf run2
checks=$((checks + 2))
"$LUNETTE" train junk --out run2 $net >out 2>err </dev/null
[ $? = 3 ] && grep -q "no PNG or JPEG pictures in junk ($count other files)" err || fail "other files"
"$LUNETTE" train bad --out run2 $net >out 2>err </dev/null
[ $? = 3 ] && grep -q "$((count / 10)) of $((count / 10)) pictures in bad cannot be used" err || fail "bad files"
check "a few lines" [ "$(grep -c . err)" -le 60 ]
finish
