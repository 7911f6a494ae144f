#!/bin/sh
# disk.sh LUNETTE TIMES [SEED]: training where no file may grow beyond a random size, as on a full disk. It ends with exit 7 and one
# line, leaves what was there whole, and goes on to the right bytes once there is room.
times=$2
seed=${3:-1}
. "$(dirname "$0")/../cli/lib.sh"
options="--device cpu --threads 1 --sample-every 3 --checkpoint-every 2"
net="--preset notebook --size 16 --channels 4,8 --batch 4"
steps=30
last=checkpoints/step-00000030

succeeds craters pictures --count 12 --size 16
succeeds train pictures --out whole $net $options --steps $steps
largest=$(find whole -type f -printf '%s\n' | sort -n | tail -n 1)
awk -v n="$times" -v seed="$seed" -v top="$largest" 'BEGIN { srand(seed); for (i = 0; i < n; i++) printf "%d\n", rand() * top / 512 }' >limits

full=0
while read -r blocks; do
    rm -rf run cache/pictures-*
    # The limit counts 512 bytes; the signal that goes with it is ignored, so that a write fails as on a full disk.
    (
        trap '' XFSZ
        ulimit -f "$blocks"
        exec "$LUNETTE" train pictures --out run $net $options --steps $steps
    ) 2>err </dev/null | cat >out
    checks=$((checks + 1))
    if [ -e run/$last.safetensors ] && ! grep -q '^lunette: error: ' err; then
        continue # there was room enough
    fi
    full=$((full + 1))
    [ "$(grep -c '^lunette: error: ' err)" = 1 ] || fail "limit of $blocks blocks: $(grep -c '^lunette: error: ' err) lines of error"
    if [ -e run/config.json ]; then
        succeeds train pictures --out run --resume $options --steps $steps
    else
        rm -rf run
        succeeds train pictures --out run $net $options --steps $steps
    fi
    check "the weights after a limit of $blocks" cmp whole/$last.safetensors run/$last.safetensors
    check "no file is left over" [ "$(find run -name '*.tmp*' | wc -l)" = 0 ]
done <limits
echo "$full of $times met the limit"
[ $full -gt 0 ] || fail "the limit was never met"
finish
