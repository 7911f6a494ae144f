#!/bin/sh
# stack.sh LUNETTE: small stacks. What a shell or a scheduler leaves of them (ulimit -s, kB) changes neither results nor what is found
# to work, and is not remembered against a driver.
. "$(dirname "$0")/lib.sh"
succeeds craters pictures --count 8 --size 16
devices=cpu
"$LUNETTE" devices 2>/dev/null | grep -q '^opencl' && devices="cpu opencl"
"$LUNETTE" devices >all 2>/dev/null

# In a cache of its own: what is found out about drivers is found out under the limit.
limited()
{
    limit=$1
    shift
    (
        ulimit -s "$limit" || exit 99
        LUNETTE_CACHE=$DIR/cache-$limit
        export LUNETTE_CACHE
        exec "$LUNETTE" "$@" >out 2>err </dev/null
    )
    code=$?
}

net="--preset tiny --size 16 --channels 8,8 --groups 4 --heads 2 --batch 2 --threads 2 --tune off --no-doctor"
for device in $devices; do
    succeeds train pictures --out whole-$device $net --device $device --steps 3 --sample-every 0
done
for limit in 1024 256; do
    limited $limit devices
    check "stacks of $limit kB: the same devices" cmp all out
    for device in $devices; do
        run=run-$device-$limit
        checks=$((checks + 4))
        limited $limit train pictures --out $run $net --device $device --steps 1 --sample-every 0
        [ $code = 0 ] || fail "stacks of $limit kB, train on $device: exit $code"
        limited $limit train pictures --out $run --resume --device $device --threads 2 --steps 3 --sample-every 0
        [ $code = 0 ] || fail "stacks of $limit kB, resume on $device: exit $code"
        cmp -s whole-$device/checkpoints/step-00000003.safetensors $run/checkpoints/step-00000003.safetensors ||
            fail "stacks of $limit kB, on $device: other weights"
        limited $limit sample $run --out grid.png --count 2 --steps 2 --device $device
        [ $code = 0 ] || fail "stacks of $limit kB, sample on $device: exit $code"
    done
    # What reads strangers' files, and draws.
    for arguments in "info --verify run-cpu-$limit" "convert run-cpu-$limit pipeline-$limit --to diffusers" "compare grid.png pictures --directions 8" \
        "plan tiny --size 16 --batch 2 --quick --device cpu" "craters more-$limit --count 2 --size 16"; do
        checks=$((checks + 1))
        limited $limit $arguments
        [ $code = 0 ] || fail "stacks of $limit kB, $arguments: exit $code"
    done
done
finish
