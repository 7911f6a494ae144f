#!/bin/sh
# Bad data 3, bad checkpoints 4, outputs that cannot be written 7; each before any work is done. A home that is missing and a
# stream that is closed do no harm.
. "$(dirname "$0")/lib.sh"
base="--preset notebook --device cpu --threads 1 --size 8 --batch 4 --steps 2 --sample-every 0"
# Not tuned: a run that cannot remember its choices may choose others, and then rounds differently.
small="$base --channels 4,4 --tune off"

succeeds craters pictures --count 8 --size 8
refuses 2 'exists already' craters pictures --count 1 --size 8
# Data
mkdir junk empty
printf 'not a picture' >junk/a.png
: >junk/b.jpg
checks=$((checks + 1))
run train junk --out r $small
[ $code = 3 ] && grep -q '^lunette: error: ' err || fail "a folder of junk: exit $code"
[ -e r ] && fail "a folder of junk: left a run folder"
checks=$((checks + 1))
run train empty --out r $small
[ $code = 3 ] || fail "an empty folder: exit $code"
refuses 3 'fewer than one batch' train pictures --out r --preset notebook --device cpu --size 8 --channels 4,4 --batch 9
# Outputs
: >file
refuses 7 'not a directory' train pictures --out file $small
refuses 7 '' train pictures --out /dev/full $small
refuses 7 '' train pictures --out file/run $small
refuses 7 '' craters file
refuses 7 '' craters /dev/full

succeeds train pictures --out run $small
refuses 2 'already holds a run' train pictures --out run $small
refuses 2 'holds no run' train pictures --out other --resume $small
refuses 2 'computes nothing' train pictures --out other --preset notebook --device null
refuses 2 'computes nothing' sample run --out g.png --device null
refuses 2 'must end in .png' sample run --out grid --device cpu
refuses 7 '' sample run --out /dev/full --device cpu
refuses 7 '' sample run --out no/such/grid.png --device cpu
refuses 7 '' sample run --out file/ --device cpu
refuses 2 'the model has 300' sample run --out g.png --steps 301 --device cpu
refuses 2 'ivisible' sample run --out g.png --size 7 --device cpu
refuses 2 'without checkpoints' sample pictures --out g.png --device cpu
# Checkpoints
model=$(ls run/checkpoints/*2.safetensors)
size=$(wc -c <"$model")
head -c $((size - 5)) "$model" >cut.safetensors
printf 'hello' >text.safetensors
: >none.safetensors
for file in cut.safetensors text.safetensors none.safetensors; do
    refuses 4 "$file" info $file
    refuses 4 "$file" sample $file --out g.png --device cpu
    refuses 4 "$file" train pictures --out r2 $small --init $file
done
[ -e r2 ] && fail "a bad --init left a run folder"
# One changed byte in the last tensor
cp "$model" bent.safetensors
printf '\125\252' | dd of=bent.safetensors bs=1 seek=$((size - 6)) conv=notrunc 2>/dev/null
refuses 4 'bent.safetensors' info bent.safetensors
refuses 4 "bent.safetensors: tensor '[a-z0-9_.]*': damaged" info --verify bent.safetensors
# Each checksum of every file of a run; a copy of another program's making has none.
succeeds info --verify run
check "all files" [ "$(grep -c '^right  run/checkpoints/step-0000000[0-9].*: [0-9]* tensors, ' out)" = "$(ls run/checkpoints | wc -l)" ]
cp -r run bent-run
cp bent.safetensors bent-run/checkpoints/step-00000002.safetensors
run info --verify bent-run
check "exit 4" [ $code = 4 ]
check "the file" grep -q '^WRONG  bent-run/checkpoints/step-00000002.safetensors$' out
check "the others" grep -q '^right  bent-run/checkpoints/step-00000002.optimizer' out
check "the tensor" grep -q "^lunette: error: bent-run/checkpoints/step-00000002.safetensors: tensor '" err
python3 - "$model" bare.safetensors <<'END'
import json, struct, sys
data = open(sys.argv[1], "rb").read()
size = struct.unpack("<Q", data[:8])[0]
header = json.loads(data[8 : 8 + size])
for key in "lunette.crc32", "lunette.header_crc32":
    del header["__metadata__"][key]
text = json.dumps(header).encode()
open(sys.argv[2], "wb").write(struct.pack("<Q", len(text)) + text + data[8 + size :])
END
succeeds info bare.safetensors
check "said to have none" grep -q ', checksums none$' out
refuses 4 'bare.safetensors: has no checksums' info --verify bare.safetensors
refuses 2 'without checkpoints' info --verify pictures
refuses 2 'no such' info --verify nothing
mkdir -p bent/checkpoints
cp bent.safetensors bent/checkpoints/step-00000002.safetensors
checks=$((checks + 1))
run sample bent --out g.png --device cpu
[ $code = 4 ] || fail "a run folder with a damaged checkpoint only: exit $code"
mkfifo pipe
refuses 4 '' info pipe
# Standard output is the result of some commands, and beside the point of others.
if [ -e /dev/full ]; then
    for arguments in "devices --json" devices "info run" "train --help" --version --help "bench train --device cpu --size 8 --channels 4,4 --steps 1 --json"; do
        checks=$((checks + 1))
        "$LUNETTE" $arguments >/dev/full 2>err
        code=$?
        [ $code = 7 ] || fail "lunette $arguments >/dev/full: exit $code"
    done
fi
for way in closed full pipe; do
    checks=$((checks + 1))
    case $way in
    closed) "$LUNETTE" train pictures --out out-$way $small >&- 2>err; code=$? ;;
    full) "$LUNETTE" train pictures --out out-$way $small >/dev/full 2>err; code=$? ;;
    pipe) { "$LUNETTE" train pictures --out out-$way $small --log-every 1 2>err; echo $? >code; } | true; code=$(cat code) ;;
    esac
    [ "$code" = 0 ] && [ -e out-$way/checkpoints/step-00000002.safetensors ] || fail "training with standard output $way: exit $code"
    cmp -s "$model" out-$way/checkpoints/step-00000002.safetensors || fail "training with standard output $way: other bytes"
done
checks=$((checks + 1))
"$LUNETTE" train pictures --out out-all $small >&- 2>&- <&-
[ $? = 0 ] && cmp -s "$model" out-all/checkpoints/step-00000002.safetensors || fail "training with all streams closed"
# A file that may not grow is a disk that is full.
checks=$((checks + 1))
# (GCOV_PREFIX: where a build that counts lines leaves its counts, which the limit would cut.)
(ulimit -f 8 && GCOV_PREFIX=$DIR/counts exec "$LUNETTE" train pictures --out out-limit $base --channels 16,16 >out 2>err)
code=$?
[ $code = 7 ] && grep -q '^lunette: error: ' err || fail "training beyond the file size limit: exit $code"
[ -z "$(find out-limit -name '.*.tmp.*')" ] || fail "training beyond the file size limit: left $(find out-limit -name '.*.tmp.*')"
# No home, no place for a cache, a comma for a point
checks=$((checks + 1))
env -u HOME -u LUNETTE_CACHE -u XDG_CACHE_HOME "$LUNETTE" train pictures --out out-home $small >out 2>err
[ $? = 0 ] && cmp -s "$model" out-home/checkpoints/step-00000002.safetensors || fail "without HOME"
checks=$((checks + 1))
LUNETTE_CACHE=$DIR/file/cache "$LUNETTE" train pictures --out out-cache $small >out 2>err
[ $? = 0 ] && cmp -s "$model" out-cache/checkpoints/step-00000002.safetensors || fail "without a cache"
checks=$((checks + 1))
LUNETTE_CACHE=$DIR/file/cache "$LUNETTE" train pictures --out out-cache2 $base --channels 4,4 >out 2>err || fail "tuning without a cache"
# Decoded pictures: none kept, kept elsewhere, taken from there, and a file that was cut
checks=$((checks + 4))
"$LUNETTE" train pictures --out out-none $small --no-cache >out 2>err
[ $? = 0 ] && cmp -s "$model" out-none/checkpoints/step-00000002.safetensors && ! grep -q '^cache:' out || fail "--no-cache"
for turn in made taken cut; do
    [ $turn != cut ] || truncate -s 5000 decoded/pictures-*
    "$LUNETTE" train pictures --out out-$turn $small --cache decoded >out 2>err
    [ $? = 0 ] && cmp -s "$model" out-$turn/checkpoints/step-00000002.safetensors && grep -q '^cache: decoded/pictures-' out ||
        fail "--cache decoded: $turn"
done
grep -q 'warning: the cache .* is damaged' err || fail "--cache decoded: cut, not said"
refuses 2 'exclude each other' train pictures --out out-both $small --cache decoded --no-cache
for locale in de_DE.UTF-8 de_DE fr_FR.UTF-8; do
    checks=$((checks + 1))
    LC_ALL=$locale "$LUNETTE" train pictures --out out-$locale $small --lr 0.001 >out 2>err
    [ $? = 0 ] && cmp -s "$model" out-$locale/checkpoints/step-00000002.safetensors || fail "in the locale $locale"
    cmp -s run/config.json out-$locale/config.json || fail "in the locale $locale: another config.json"
done
finish
