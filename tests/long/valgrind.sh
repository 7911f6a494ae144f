#!/bin/sh
# valgrind.sh LUNETTE: a run from pictures to pictures on plain C under valgrind: no byte is read that was not written or is not
# ours, and nothing is left behind. Skipped without valgrind.
golden=$(cd "$(dirname "$0")/../model/golden" && pwd) || exit 1
. "$(dirname "$0")/../cli/lib.sh"
command -v valgrind >/dev/null 2>&1 || { echo "SKIP: no valgrind here"; exit 77; }
# What threads hold at the end of the process is still reachable, and not counted.
watch="valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect,possible --errors-for-leak-kinds=definite,indirect,possible --track-fds=no --log-file=$DIR/watched"

# under NAME CODE ARGUMENTS...: that exit code, and nothing to report
under()
{
    name=$1
    want=$2
    shift 2
    checks=$((checks + 1))
    $watch "$LUNETTE" "$@" >out 2>err </dev/null
    code=$?
    if [ $code != "$want" ] || [ -s watched ]; then
        fail "$name: exit $code, not $want"
        head -n 30 watched
    fi
}

net="--preset notebook --size 8 --channels 4,8 --batch 4 --device cpu --threads 2 --tune off --no-doctor"
under craters 0 craters pictures --count 9 --size 8
under train 0 train pictures --out run $net --steps 4 --sample-every 1 --checkpoint-every 2 --ema 0.9 --clip-norm 1 --accumulate 2 --holdout 3 --cache decoded
under resume 0 train pictures --out run --resume --device cpu --threads 2 --steps 6 --tune off --no-doctor --cache decoded
under "a UNet" 0 train pictures --out unet --preset tiny --size 8 --batch 2 --device cpu --threads 2 --tune off --no-doctor --steps 1 --sample-every 0
under sample 0 sample run --out grid.png --count 3 --steps 5 --device cpu --threads 2
under "sample, ddim" 0 sample run --out strip.png --count 2 --sampler ddim --steps 3 --strip --device cpu --threads 1
under info 0 info run
under plan 0 plan tiny --size 8 --batch 2 --quick --device cpu
under compare 0 compare grid.png pictures --directions 8
under convert 0 convert "$golden/hf-ho" ho.safetensors --to lunette
under "convert back" 0 convert ho.safetensors ho --to diffusers
weights=$(ls run/checkpoints/step-????????.safetensors | tail -n 1)
# What goes wrong leaves nothing behind either.
head -c 3000 "$weights" >cut.safetensors
under "a cut file" 4 info cut.safetensors
under "no such folder" 2 train nowhere --out r
printf 'no picture' >junk.png
under "a picture that is none" 3 compare junk.png pictures
under "tuning and checking" 0 train pictures --out tuned --preset notebook --size 8 --channels 4,8 --batch 4 --device cpu --threads 2 --steps 1 --sample-every 0
finish
