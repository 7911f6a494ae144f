#!/bin/sh
# Whatever is wrong on the command line is one clear line and exit 2, and nothing is written.
. "$(dirname "$0")/lib.sh"

checks=$((checks + 1))
run
[ $code = 2 ] && [ ! -s out ] && grep -q '^usage: lunette' err || fail "without arguments"
succeeds --version
grep -q '^lunette [0-9]' out || fail "--version prints no version"
succeeds --help
refuses 2 "unknown command 'tarin' (did you mean train" tarin

for command in train plan sample compare devices bench predict craters convert info; do
    succeeds $command --help
    grep -q "^usage: lunette $command" out || fail "$command --help: no usage"
    grep -q '^example:' out || fail "$command --help: no example"
    grep -q "^  $command " out && fail "$command --help lists the commands"
    refuses 2 'unknown option --frobnicate' $command --frobnicate
done
refuses 2 'did you mean --batch' train d --out r --bacth 4
refuses 2 'did you mean --json' devices --jsn
refuses 2 'usage: lunette train' train
refuses 2 'usage: lunette sample' sample
refuses 2 'usage: lunette craters' craters
refuses 2 'usage: lunette info' info
refuses 2 'usage: lunette bench' bench
refuses 2 "unexpected argument 'more'" info file more
refuses 2 "unexpected argument 'more'" devices more
refuses 2 "bench 'tarin'" bench tarin

mkdir pictures
# Values: whole numbers
for value in abc 12abc 1e3 '' +5 ' 5' '5 ' -1 0 0x10 1.5 4097 2147483648 9223372036854775808 18446744073709551616 nan inf; do
    refuses 2 '^lunette: error: --batch' train pictures --out r --preset notebook --batch "$value"
    refuses 2 '^lunette: error: --batch' train pictures --out r --preset notebook "--batch=$value"
done
for value in abc '' -1 +1 1e3 18446744073709551616; do
    refuses 2 '^lunette: error: --seed' train pictures --out r --preset notebook --seed "$value"
    refuses 2 '^lunette: error: --steps' train pictures --out r --preset notebook --steps "$value"
done
refuses 2 '^lunette: error: --steps 0' train pictures --out r --preset notebook --steps 0
refuses 2 '^lunette: error: --steps' train pictures --out r --preset notebook --steps 9223372036854775808
refuses 2 '^lunette: error: --epochs' train pictures --out r --preset notebook --epochs 0
for value in 0 100000 abc; do
    refuses 2 '^lunette: error: --threads' train pictures --out r --preset notebook --threads $value
done
# Real numbers
for value in nan inf -inf -1 0 1e39 0x1p3 1,5 abc '' +1 '1 ' .; do
    refuses 2 '^lunette: error: --lr' train pictures --out r --preset notebook --lr "$value"
    refuses 2 '^lunette: error: --hours' train pictures --out r --preset notebook --hours "$value"
done
for option in --weight-decay --clip-norm --lr-end; do
    for value in nan -1 x '' 1e400; do
        refuses 2 "^lunette: error: $option" train pictures --out r --preset notebook $option "$value"
    done
done
for option in --ema --betas; do
    for value in '' , 0.5, ,0.5 x 0.5,x -0.5 nan 0.1,0.2,0.3,0.4,0.5; do
        refuses 2 "^lunette: error: $option" train pictures --out r --preset notebook $option "$value"
    done
done
refuses 2 'two numbers' train pictures --out r --preset notebook --betas 0.9
refuses 2 'betas' train pictures --out r --preset notebook --betas 0.9,1
refuses 2 "moving average's rate 1" train pictures --out r --preset notebook --ema 1
refuses 2 'given twice' train pictures --out r --preset notebook --ema 0.9,0.9
refuses 2 "moving average's rate 0" train pictures --out r --preset notebook --ema 0,0.9
refuses 2 'must be one of constant, linear, cosine' train pictures --out r --preset notebook --decay exponential
refuses 2 'must be one of adam, adamw' train pictures --out r --preset notebook --optimizer sgd
refuses 2 'must be one of none, power, ramp' train pictures --out r --preset notebook --ema 0.9 --ema-warmup slow
refuses 2 'only with --ema' train pictures --out r --preset notebook --ema-warmup power
refuses 2 '\-\-lr-end: only with --decay' train pictures --out r --preset notebook --lr-end 1e-5
refuses 2 '\-\-decay-steps: only with --decay' train pictures --out r --preset notebook --decay constant --decay-steps 5
refuses 2 'before the warm-up' train pictures --out r --preset notebook --decay linear --decay-steps 5 --warmup 5
refuses 2 'the end must be 0 to 0.001' train pictures --out r --preset notebook --decay linear --lr-end 0.1
refuses 2 '\-\-decay-steps' train pictures --out r --preset notebook --decay linear --hours 1
refuses 2 'must divide it' train pictures --out r --preset notebook --accumulate 3
refuses 2 '\-\-micro-batch 5: does not divide the batch of 16' train pictures --out r --preset notebook --micro-batch 5
refuses 2 'exclude each other' train pictures --out r --preset notebook --micro-batch 4 --accumulate 4
# Lists and choices
for value in '' , 8, ,8 8,,16 8,x 8,-16 8,0 1,2,3,4,5,6,7,8,9 99999999999; do
    refuses 2 '^lunette: error: --channels' train pictures --out r --preset notebook --channels "$value"
done
refuses 2 'must be one of none, x0, xt' sample m --out g.png --clip maybe
refuses 2 'must be one of eval, train' sample m --out g.png --norm-mode batch
refuses 2 'must be one of ancestral, ddim, dpm, heun' sample m --out g.png --sampler euler
refuses 2 'must be one of small, large, learned' sample m --out g.png --variance none
refuses 2 '^lunette: error: --eta 2' sample m --out g.png --sampler ddim --eta 2
refuses 2 'needs two whole numbers' sample m --out g.png --interpolate 1
refuses 2 'needs two whole numbers' sample m --out g.png --interpolate=1 2
refuses 2 'needs two whole numbers' sample m --out g.png --interpolate 1 x
refuses 2 'exclude each other' sample m --out g.png --interpolate 1 2 --seed 3
refuses 2 'unknown preset' train pictures --out r --preset nothing
# Missing and doubled
for option in --out --batch --lr --device --channels --clip; do
    refuses 2 "$option needs a value" train pictures $option
done
refuses 2 '\-\-batch is given twice' train pictures --out r --preset notebook --batch 4 --batch 4
refuses 2 '\-\-quiet is given twice' train pictures --out r --preset notebook --quiet --quiet
refuses 2 '\-\-quiet takes no value' train pictures --out r --preset notebook --quiet=1
refuses 2 'exclude each other' train pictures --out r --preset notebook --steps 5 --epochs 5
refuses 2 'exclude each other' train pictures --out r --preset notebook --hours 1 --epochs 5
refuses 2 '\-\-out RUN is missing' train pictures
refuses 2 '\-\-out is missing' sample m
# Sizes that the network cannot take
refuses 2 'ivisible' train pictures --out r --preset notebook --size 30 --channels 8,16,32
refuses 2 '^lunette: error: ' train pictures --out r --preset notebook --channels 8
refuses 2 'norm-mode eval' train pictures --out r --preset notebook --size 4 --channels 8,8,8
# Craters
refuses 2 '^lunette: error: --size 7' craters c --size 7
refuses 2 '^lunette: error: --size 513' craters c --size 513
refuses 2 '^lunette: error: --count 0' craters c --count 0
refuses 2 '^lunette: error: --count' craters c --count 10001
# Devices that are none
for device in quantum '' opencl: opencl:x opencl:-1 cpu:1; do
    refuses 2 '' bench train --device "$device" --channels 8,8 --size 8 --batch 2 --steps 1
done
refuses 5 '' bench train --device opencl:999 --channels 8,8 --size 8 --batch 2 --steps 1
# Odd names
refuses 2 'no such folder' train nowhere --out r
refuses 2 'not a folder' train err --out r
refuses 2 'no such model' sample nowhere --out g.png
refuses 2 'no such model' info "$(printf 'a\nb')"
refuses 2 'no such model' info "$(printf 'a\377b')"
refuses 2 'xxx' info "$(printf '%5000s' x | tr ' ' x)"
refuses 2 'no such model' info -- --strange
refuses 2 'FOLDER is empty' craters ''
checks=$((checks + 1))
# In the cache: what the drivers answered when they were asked.
[ "$(ls | grep -v '^cache$')" = "$(printf 'err\nout\npictures')" ] || fail "files were left: $(ls | tr '\n' ' ')"
finish
