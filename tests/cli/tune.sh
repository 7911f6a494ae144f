#!/bin/sh
# Tuning: measured once, shown, remembered, used; pins and --tune decide what counts.
. "$(dirname "$0")/lib.sh"
net="--preset notebook --size 16 --channels 8,16 --batch 4 --device cpu --threads 1"

succeeds tune $net
check "the table" grep -q '^conv2d 4x3x16x16 (8,3,3,3)' out
check "a chosen candidate" grep -q '^  \* ' out
check "errors beside their bounds" grep -q 'panel .* 0 of ' out
check "where it is remembered" grep -q "^remembered in $DIR/cache/tuning-" out
check "one file" [ "$(ls cache | grep -c '^tuning-.*\.txt$')" = 1 ]
check "readable" grep -q "ms$(printf '\t')conv2d 4x3x16x16 (8,3,3,3)" cache/tuning-*.txt
check "the device is named" grep -q 'plain C' cache/tuning-*.txt
lines=$(wc -l <"$(ls cache/tuning-*.txt)")

succeeds tune $net --missing
check "remembered" grep -q '^conv2d .*(remembered)' out
check "nothing is measured twice" grep -q '^0 ops measured' out
succeeds tune $net --missing --json
check "JSON" python3 -c 'import json; d = json.load(open("out")); assert d["ops"] and all(o["remembered"] for o in d["ops"])'
succeeds tune $net --json
check "every try" python3 -c 'import json; d = json.load(open("out")); o = d["ops"]
assert all(any(t["candidate"] == r["chosen"] and t["ms"] > 0 and t["error"] <= t["bound"] for t in r["tries"]) for r in o)
assert any(len(r["tries"]) > 1 for r in o) and d["rejected"] == 0'
succeeds tune $net --for sample
check "sampling adds ops" [ "$(wc -l <"$(ls cache/tuning-*.txt)")" -gt "$lines" ]

# train takes what is remembered; every op by hand to the slowest of them shows it
succeeds craters pictures --count 8 --size 16 --seed 3
sed -i "s/^[a-z_0-9]*\(	[0-9.]* ms\)/direct\1/" cache/tuning-*.txt
file=$(ls cache/tuning-*.txt)
cp "$file" direct.txt
succeeds train pictures --out known $net --steps 2 --sample-every 0
grep -q tuning out && fail "measured although all is remembered"
check "taken" grep -q '"conv2d 4x3x16x16 (8,3,3,3).*": "direct"' known/config.json
succeeds train pictures --out off $net --steps 2 --sample-every 0 --tune off
grep -q '"conv2d 4x3x16x16 (8,3,3,3).*": "direct"' off/config.json && fail "--tune off took what is remembered"

# What a run was begun with wins over the table
succeeds train pictures --out off --resume --steps 4 --device cpu --threads 1 --sample-every 0
succeeds train pictures --out straight $net --steps 4 --sample-every 0 --tune off
check "pins win" cmp off/checkpoints/step-00000004.safetensors straight/checkpoints/step-00000004.safetensors

# Damage and absence
head -c 300 direct.txt >"$file"
succeeds train pictures --out damaged $net --steps 1 --sample-every 0
check "measured anew, and said" grep -q '^tuned: ' out
rm -rf cache
succeeds train pictures --out fresh $net --steps 1 --sample-every 0 --tune known
[ -e "$file" ] && fail "--tune known measured"
succeeds sample fresh --out grid.png --count 1 --steps 2 --device cpu --threads 1
[ -e "$file" ] && fail "sample measured"
succeeds bench train $net --steps 1
check "bench says which kernels" grep -q '^kernels: .*nothing is remembered' out
succeeds bench train $net --steps 1 --tune auto
check "bench tunes when asked" grep -q '^kernels: as remembered' out

succeeds tune --device null --size 16 --channels 8,16 --batch 4
check "nothing on null" grep -q '^nothing to tune' out
refuses 2 'leave out' tune --model known --channels 8,16
refuses 2 '--for' tune --for fun
finish
