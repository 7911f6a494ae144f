#!/bin/sh
# Preset auto, train's default: chosen for the folder and the device, recorded, and gone on with.
. "$(dirname "$0")/lib.sh"

"$LUNETTE" craters pictures --count 9 --size 48 >/dev/null || fail "pictures"
on="--device cpu --threads 2 --no-doctor --tune off"

# Mistakes are found before seconds go into timing, and leave nothing.
refuses 2 'does not divide the batch' train pictures --out run --micro-batch 5
refuses 2 'give the --preset' train pictures --out run --init pictures
refuses 2 'computes nothing' train pictures --out run --device null
mkdir empty
refuses 3 'no pictures' train empty --out run
refuses 2 'give FOLDER too' plan auto
check "nothing is left" [ ! -e run ]

succeeds train pictures --out run $on --steps 3 --sample-every 0
check "it says what was chosen" grep -q '^auto: for 9 pictures, 48 pixels across, and this device: 3 steps of about' out
check "it is recorded" grep -q '"preset": "auto"' run/config.json
check "32 pixels are the most below 48" grep -q '9 pictures at 32x32' out
# Which depends on the machine.
check "a UNet" grep -Eq '^model: auto, channels (32,64,128|64,128,256),' out
check "v prediction" grep -q '^objective: cosine of 1000 steps, v, min-SNR weights 5.*loss l2' out
refuses 2 'already holds a run' train pictures --out run $on
succeeds train pictures --out run --resume --steps 5 --device cpu --threads 2 --sample-every 0
check "nothing is chosen anew" sh -c '! grep -q "^auto:" out'
succeeds train pictures --out run --resume --preset auto --steps 5 --device cpu
refuses 2 '--preset tiny: .*auto' train pictures --out run --resume --preset tiny
succeeds sample run --out grid.png --count 2 --steps 2 --device cpu

# Options override their part; the hours are a limit as well.
succeeds train pictures --out own $on --size 16 --batch 2 --channels 8,16 --groups 4 --head-width 4 --lr 0.002 --loss l1 --ema 0.9 --steps 2 --sample-every 0
check "its channels" grep -q 'model: auto, channels 8,16,' out
check "its rate" grep -q 'lr 0.002' out
check "its loss" grep -q 'min-SNR weights 5.*loss l1' out
succeeds train pictures --out short $on --hours 0.0003 --sample-every 0
check "about a second" grep -q 'step [1-9]' out

# What it would be, beforehand.
succeeds plan auto pictures --device cpu --threads 2 --quick
check "the plan is for 32 pixels" grep -Eq '^model: 32x32, channels (32,64,128|64,128,256),' out
check "and has a length" grep -Eq '^auto: .* [0-9]+ steps of about' out

refuses 2 'exclude each other' plan auto pictures --hours 1 --steps 4
succeeds plan auto pictures --device cpu --threads 2 --quick --hours 0.001
check "a shorter one" grep -Eq '^auto: .* [0-9]+ steps of about .*, [0-9]+s in all' out

finish
