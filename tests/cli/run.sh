#!/bin/sh
# From craters to pictures: every file that a run promises, and what sampling, info and resume make of it.
. "$(dirname "$0")/lib.sh"

succeeds craters pictures --count 17 --size 16 --seed 3
check "17 pictures" [ "$(ls pictures | wc -l)" = 17 ]
succeeds craters again --count 17 --size 16 --seed 3
check "craters repeat" diff -r pictures again
succeeds craters others --count 5 --size 16 --seed 4
cmp -s others/crater-0000.png pictures/crater-0000.png && fail "another seed, the same craters"

succeeds train pictures --out run --device cpu --threads 1 --size 16 --channels 8,16 --batch 4 --epochs 2 --sample-every 1 --log-every 1
for file in config.json log.jsonl loss.png data.png forward.png samples/epoch-00001.png samples/epoch-00002.png \
    checkpoints/step-00000008.safetensors checkpoints/step-00000008.optimizer.safetensors; do
    check "the run's files" [ -s run/$file ]
done
check "a line a step" [ "$(wc -l <run/log.jsonl)" = 8 ]
check "what a line says" grep -q '"step": 8.*"epoch": 1.*"loss": .*"images_per_s": .*"elapsed_s": ' run/log.jsonl
check "plain lines in a pipe" grep -q '^step 8/8  epoch 2  loss 0\.' out
check "where things are" grep -q 'run/checkpoints/step-00000008.safetensors' out
check "no escape codes in a pipe" [ "$(tr -d -c '\033\r' <out | wc -c)" = 0 ]

# The same run, quietly
succeeds train pictures --out quiet --device cpu --threads 1 --size 16 --channels 8,16 --batch 4 --steps 8 --sample-every 0 --quiet
check "quiet is one line" [ "$(cat out err | wc -l)" = 1 ]
check "steps are epochs" cmp run/checkpoints/step-00000008.safetensors quiet/checkpoints/step-00000008.safetensors

# Samples
succeeds sample run --out grid.png --count 5 --steps 10 --device cpu --threads 1
check "a PNG" [ "$(head -c 4 grid.png | tail -c 3)" = PNG ]
for word in model step-00000008.safetensors 'seed' 0..4 sampler ancestral 'norm mode'; do
    check "text chunk $word" grep -a -q "$word" grid.png
done
succeeds sample run/checkpoints/step-00000008.safetensors --out same.png --count 5 --steps 10 --device cpu --threads 1
check "a run is its newest checkpoint" cmp grid.png same.png
succeeds sample run --out other.png --count 5 --steps 10 --seed 1 --device cpu --threads 1
cmp -s grid.png other.png && fail "another seed, the same pictures"
succeeds sample run --out strip.png --count 2 --strip --steps 20 --device cpu --threads 1
succeeds sample run --out folder/ --count 5 --steps 10 --norm-mode eval --device cpu --threads 1
check "a file a picture" [ "$(ls folder | tr '\n' ' ')" = '000000.png 000001.png 000002.png 000003.png 000004.png ' ]
# In evaluation mode a picture depends on its seed alone, not on how the batches fall.
succeeds sample run --out folder2/ --count 5 --steps 10 --norm-mode eval --batch 2 --device cpu --threads 1
check "batches change nothing in evaluation mode" diff -r folder folder2
succeeds sample run --out folder3/ --count 2 --seed 3 --steps 10 --norm-mode eval --device cpu --threads 1
check "picture k has the seed S + k" cmp folder/000003.png folder3/000000.png
for clip in none x0; do
    succeeds sample run --out $clip.png --count 1 --clip $clip --steps 5 --device cpu
done
succeeds sample run --out big.png --count 1 --size 32 --steps 2 --device cpu
for sampler in ddim dpm heun; do
    succeeds sample run --out $sampler.png --count 2 --sampler $sampler --steps 5 --strip --device cpu --threads 1
    check "text chunk sampler $sampler" grep -a -q $sampler $sampler.png
done
succeeds sample run --out eta.png --count 1 --sampler ddim --eta 0.5 --steps ddim25 --device cpu --threads 1
succeeds sample run --out list.png --count 1 --steps 2,3,4 --variance large --device cpu --threads 1
succeeds sample run --out way.png --count 3 --sampler ddim --steps 5 --interpolate 3 9 --device cpu --threads 1
check "text chunk of both seeds" grep -a -q '3 to 9' way.png
refuses 2 'must be a number, numbers separated by commas' sample run --out g.png --steps ddimx --device cpu
refuses 2 'no whole stride' sample run --out g.png --steps ddim299 --device cpu
refuses 2 'takes no labels' sample run --out g.png --steps 2 --class 1 --device cpu
refuses 2 'takes no labels' sample run --out g.png --steps 2 --guidance 2 --device cpu
refuses 2 'learned no variance' sample run --out g.png --steps 2 --variance learned --device cpu
refuses 2 'not the picture' sample run --out g.png --sampler dpm --clip xt --device cpu

# Info
succeeds info run
check "parameters" grep -q '^parameters  13723$' out
check "channels" grep -q 'channels 8,16' out
check "steps" grep -q '^trained     8 steps' out
check "tensors" grep -q 'ups.0.transform.weight  *F32  *(8, 8, 4, 4)' out
check "checksums" grep -q 'checksums right' out

# Going on, and what may not change
succeeds train pictures --out run --resume --epochs 3 --device cpu --threads 1 --sample-every 0
check "the third epoch" [ -s run/checkpoints/step-00000012.safetensors ]
succeeds train pictures --out run --resume --epochs 3 --device cpu --size 16 --batch 4 --lr 0.001 --seed 0 --channels 8,16 --loss l1
check "nothing left" grep -q 'nothing was left to do' out
succeeds train pictures --out run --resume --device cpu
check "the length is remembered" grep -q 'nothing was left to do' out
refuses 2 '--size 32.*16' train pictures --out run --resume --size 32
refuses 2 '--batch 8.*4' train pictures --out run --resume --batch 8
refuses 2 '--lr 0.01.*0.001' train pictures --out run --resume --lr 0.01
refuses 2 '--seed 5.*0' train pictures --out run --resume --seed 5
refuses 2 '--channels 8,16,32.*8,16' train pictures --out run --resume --channels 8,16,32
refuses 2 '--loss l2.*l1' train pictures --out run --resume --loss l2
refuses 2 'exclude' train pictures --out run --resume --init run/checkpoints/step-00000012.safetensors
run train others --out run --resume --epochs 4 --device cpu
check "other pictures are refused" [ $code = 3 ]
check "other pictures are named" grep -q '^lunette: error: .*other pictures' err
succeeds train pictures --out init --init run/checkpoints/step-00000012.safetensors --steps 1 --size 16 --channels 8,16 --batch 4 --device cpu
check "the start is kept" [ -s init/checkpoints/step-00000000.safetensors ]
refuses 4 '8,16.*4,8.*--channels' train pictures --out unfit --init run/checkpoints/step-00000012.safetensors --size 16 --channels 4,8 --batch 4
[ -e unfit ] && fail "an unfit --init left a folder"
for file in loss.png data.png forward.png samples/epoch-00001.png; do
    for word in Software model seed sampler steps; do
        check "$file: text chunk $word" grep -a -q "tEXt$word" run/$file
    done
done

# Bench
for mode in train sample ops; do
    succeeds bench $mode --batch 2 --size 8 --channels 4,8 --steps 2 --device cpu --threads 1 --json
    for key in device images_per_s step_s peak_bytes batch size steps; do
        check "bench $mode: $key" grep -q "\"$key\": " out
    done
    succeeds bench $mode --batch 2 --size 8 --channels 4,8 --steps 2 --device cpu --threads 1
done
check "an op's line" grep -q 'conv2d.*\[' out
check "the sum" grep -q '^sum of ops' out
succeeds devices --json
check "cpu is there" grep -q '"spec": "cpu"' out

# A terminal: one line redrawn, erased at the end, no colour where it is not wanted
if command -v script >/dev/null 2>&1 && script -qec true /dev/null >/dev/null 2>&1; then
    command="'$LUNETTE' train pictures --out term --device cpu --threads 1 --size 16 --channels 8,16 --batch 4 --steps 8 --sample-every 0"
    checks=$((checks + 1))
    TERM=xterm NO_COLOR= script -qec "$command" /dev/null >out 2>err </dev/null || fail "on a terminal: $(cat out)"
    check "a live line" grep -q "$(printf '\r\033')\[K.*step 8/8" out
    check "bold" grep -q "$(printf '\033')\[1m" out
    rm -r term
    TERM=xterm NO_COLOR=1 script -qec "$command" /dev/null >out 2>err </dev/null
    check "a live line" grep -q "$(printf '\r\033')\[Kstep 8/8" out
    grep -q "$(printf '\033')\[1m" out && fail "NO_COLOR is not honoured"
    rm -r term
    TERM=dumb script -qec "$command" /dev/null >out 2>err </dev/null
    grep -q "$(printf '\033')" out && fail "escape codes on a dumb terminal"
fi
finish
