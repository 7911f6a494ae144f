#!/bin/sh
# What a run will cost: the table, one preset, its folder, and what is refused; nothing is written.
. "$(dirname "$0")/lib.sh"

succeeds plan --help
check "usage" grep -q '^usage: lunette plan' out
check "example" grep -q '^example:' out

succeeds plan --device cpu
for row in 'tiny ' 'small ' 'notebook  *62438883  *64x64' 'ddpm-cifar10  *35746307  *32x32' 'ddpm-256  *113673219 ' 'adm-64  *295904454 '; do
    check "a row of $row" grep -q "^$row" out
done
succeeds plan --device cpu --json
check "JSON of all" python3 -c 'import json; d = json.load(open("out"))
assert len(d) == 6 and all(p["parameters"] > 0 and p["memory"]["device"] > 0 and p["step_s"] is None for p in d)
gflop = {p["preset"]: p["gflop_per_image"] for p in d}
# six times the multiplications that are published, less the first gradient and more the rest; after an upsampling a
# training step needs 4 of the 9 multiplications of a 3x3 filter
for name, macs, upsampled in ("ddpm-cifar10", 6.22, 0.793), ("ddpm-256", 248.5, 24.76), ("notebook", 5.73, 0), ("adm-64", 109.7, 9.86):
    assert 0.97 < gflop[name] / (6 * (macs - upsampled * 5 / 9)) < 1.05, (name, gflop[name])'

# One preset: what it says before is what train then takes
takes_as_said()
{
    said=$(sed -n 's/^  in all  *\([0-9.]* [kMG]*B\) .*/\1/p' out)
    succeeds train pictures --out run --preset tiny $net --tune off
    check "train takes what was said ($said)" grep -q "^memory: $said on the device" out
    rm -rf run
}
succeeds craters pictures --count 20 --size 16 --seed 3
succeeds plan tiny pictures --size 16 --batch 4 --epochs 3 --device cpu --threads 1 --json
check "JSON of one" python3 -c 'import json; d = json.load(open("out")); m = d["memory"]
assert d["pictures"] == 20 and d["steps_per_epoch"] == 5 and d["steps"] == 15 and d["fits"] and d["largest_batch"] >= 4
assert m["device"] == sum(m[k] for k in "weights gradients moments averages activations inputs workspace holdout samples".split())
assert d["step_s"] > 0 and 0 < d["timed_share"] <= 1 and 1 <= d["timed_batch"] <= 4 # fewer where the machine is busy
assert abs(d["run_s"] / (15 * d["step_s"]) - 1) < 1e-4'
for epochs in 3 5; do # with 5 there are sample strips
    net="--size 16 --batch 4 --epochs $epochs --device cpu --threads 1"
    succeeds plan tiny pictures $net --quick
    check "in words" grep -q '^data: 20 pictures, 5 steps an epoch' out
    check "the memory" grep -q '^  activations ' out
    takes_as_said
done
# Whatever train is told, plan can be told
net='--size 16 --batch 8 --accumulate 2 --ema 0.99,0.999 --holdout 5 --channels 32,64 --epochs 5 --device cpu --threads 1'
succeeds plan tiny pictures $net --quick
check "parts" grep -q '^memory of a batch of 8 in 2 parts' out
check "held out" grep -q '^data: 20 pictures, 4 of them held out, 2 steps an epoch' out
takes_as_said
mkdir classes && cp -r pictures classes/a && cp -r pictures classes/a-b && cp -r pictures classes/c
net='--labels --size 16 --device cpu --threads 1'
succeeds plan tiny classes $net --quick
said=$(sed -n 's/^model: .*, \([0-9]*\) parameters,.*/\1/p' out)
succeeds train classes --out run --preset tiny $net --steps 1 --tune off --no-doctor
check "classes are counted ($said parameters)" grep -q "^model: .* $said parameters" out
rm -rf run
refuses 3 'wants two sub-folders' plan tiny pictures --labels
refuses 3 'of 20 pictures leaves none held out' plan tiny pictures --holdout 0.000001
refuses 2 'how many classes there are FOLDER tells' plan tiny --labels
rm -r classes
succeeds plan tiny pictures --size 16 --batch 8 --hours 0.01 --decay constant --device cpu --threads 1 --json
check "hours become steps" python3 -c 'import json; d = json.load(open("out"))
assert 0.9 * 36 - d["step_s"] < d["run_s"] <= 36.001, d'

succeeds plan tiny --quick --device null
check "without a folder" grep -q '^model: 32x32' out
check "no data" sh -c '! grep -q "^data:" out'

mkdir empty few
succeeds craters few --count 3 --size 16
refuses 2 'unknown preset .nothing. (known: tiny, small' plan nothing
refuses 2 'no such folder' plan tiny nowhere
refuses 2 'not a folder' plan tiny err
refuses 3 'no pictures' plan tiny empty
refuses 3 'fewer than one batch of 32; give --batch' plan tiny few
refuses 2 'exclude each other' plan tiny few --batch 1 --epochs 2 --steps 3
refuses 2 'ivisible' plan tiny --size 30
refuses 2 'batch goes with a PRESET' plan --batch 3
refuses 2 'ema goes with a PRESET' plan --ema 0.9
refuses 2 "unexpected argument 'more'" plan tiny few more
refuses 2 'the device check holds everything twice' plan tiny --device check:cpu,cpu --quick
check "nothing is written" [ "$(ls | tr '\n' ' ')" = "cache empty err few out pictures " ]
finish
