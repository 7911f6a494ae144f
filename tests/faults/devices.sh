#!/bin/sh
# devices.sh LUNETTE ICD OPENS OPCHECK SHIM: what a device may be, say and do to a run (tests/FAULTS.md, E), on the platform of icd.c.
icd=$(realpath "$2") opens=$(realpath "$3") opcheck=$(realpath "$4") shim=$(realpath "$5")
tests=$(cd "$(dirname "$0")" && pwd) || exit 1
. "$(dirname "$0")/../cli/lib.sh"
mkdir vendors
echo "$icd" >vendors/stub.icd
OCL_ICD_VENDORS=$DIR/vendors
STUB_REPORT=$DIR/report
export OCL_ICD_VENDORS STUB_REPORT
net="--preset notebook --size 8 --channels 4,4 --batch 2"
options="$net --device opencl --diffusion-steps 20 --sample-every 0 --checkpoint-every 1 --tune off"
succeeds craters pictures --count 4 --size 8

# with "VARIABLE=VALUE ..." FUNCTION ARGUMENTS...: in that environment
with()
{
    settings=$1
    shift
    for setting in $settings; do
        export "$setting"
    done
    "$@"
    for setting in $settings; do
        unset "${setting%%=*}"
    done
}

reported()
{
    sed -n "s/^stub $1 //p" report
}

# fails PATTERN ARGUMENTS...: train ends with exit 5 and one line of error, which has the pattern
fails()
{
    pattern=$1
    shift
    checks=$((checks + 1))
    rm -rf broken
    run train pictures --out broken $options "$@"
    if [ $code != 5 ]; then
        fail "train $*: exit $code"
    elif [ "$(wc -l <err)" != 1 ] || ! grep -q "^lunette: error: .*$pattern" err; then
        fail "train $*: not one line of error that says '$pattern'"
    fi
}

# trains FOLDER: two steps
trains()
{
    rm -rf $1
    succeeds train pictures --out $1 $options --steps 2 --no-doctor
}

same()
{
    for file in step-00000002.safetensors step-00000002.optimizer.safetensors; do
        check "$2: the bytes of $1" cmp $1/checkpoints/$file $2/checkpoints/$file
    done
}

# ---- Devices that cannot be used (E2, E11)

# left_out WORD REASON
left_out()
{
    with "STUB_SAYS=$1" refuses 5 "error: no OpenCL device can be used: .*: $2" doctor --device opencl $net
    with "STUB_SAYS=$1" succeeds devices
    check "$1: named" grep -q "^lunette: warning: an OpenCL device is left out: .*: $2" err
    check "$1: once" [ "$(wc -l <err)" = 1 ]
    check "$1: not listed" [ "$(grep -c '^opencl' out)" = 0 ]
    check "$1: plain C is" grep -q '^cpu' out
}

left_out unavailable 'it is not available'
left_out no-compiler 'it has no compiler'
left_out silent 'it does not answer (CL_DEVICE_NOT_AVAILABLE, -2)'
left_out old 'it is older than OpenCL 1.2'
left_out big-endian 'it is big-endian'
left_out embedded 'it has no 64-bit integers'
left_out no-nearest 'its float arithmetic lacks rounding to nearest'
left_out no-infinities 'its float arithmetic lacks rounding to nearest, infinities or NaN'
check "a device that is sound" "$LUNETTE" doctor --device opencl $net
refuses 5 'there is no opencl:1: the last of 1 OpenCL devices is opencl:0' doctor --device opencl:1 $net
with STUB_SAYS=unavailable succeeds train pictures --out automatic $net --device auto --diffusion-steps 20 --sample-every 0 --steps 1 --tune off --no-doctor
check "auto takes plain C and says why" grep -q 'left out: stub: it is not available' err
for call in clGetDeviceIDs clGetDeviceInfo clCreateContext clCreateCommandQueue; do
    with "STUB_HANG=$call LUNETTE_PROBE=1 LUNETTE_CACHE=$DIR/hanging" succeeds devices
    check "$call does not return: named" grep -q 'stub.icd, asked for its devices, does not answer within 1 seconds: it is left out' err
    check "$call does not return: not listed" [ "$(grep -c '^opencl' out)" = 0 ]
    rm -rf hanging
done
# Held against it for an hour: the shim's clock is a day off.
later="LD_PRELOAD=$shim LUNETTE_CACHE=$DIR/hanging"
with "STUB_HANG=clCreateContext LUNETTE_PROBE=1 $later" succeeds devices
check "a driver that hung is left out" [ "$(grep -c '^opencl' out)" = 0 ]
with "$later" succeeds devices
check "and for an hour" [ "$(grep -c '^opencl' out)" = 0 ]
with "FAULT_CLOCK=wall $later" succeeds devices
check "then it is asked again" grep -q '^opencl:0 .*stub' out
with "$later" succeeds devices
check "and all is well" grep -q '^opencl:0 .*stub' out
check "nothing is said" [ ! -s err ]

# ---- Kernels that do not build (E4)

one_line()
{
    check "$1: a line of at most a thousand characters" [ "$(wc -c <err)" -le 1100 ]
    check "$1: that no terminal obeys" sh -c '! LC_ALL=C grep -q "[^ -~]" err'
}

for log in 0 1 3000 9000000; do
    with "STUB_BUILD=fails STUB_LOG=$log LUNETTE_CACHE=$DIR/none" fails 'does not compile for stub .*CL_BUILD_PROGRAM_FAILURE' --steps 1
    one_line "a log of $log bytes"
done
check "the log is quoted" grep -q 'text.cl:1:1: error: ' err
with "STUB_BUILD=fails STUB_LOG=0 LUNETTE_CACHE=$DIR/none" fails "the compiler's log is empty" --steps 1
with "STUB_BUILD=fails STUB_LOG=-1 LUNETTE_CACHE=$DIR/none" fails "the compiler's log is too long" --steps 1
trains usual
check "nothing is said of sound kernels" [ ! -s err ]
with "STUB_BUILD=warns STUB_LOG=9000000 LUNETTE_CACHE=$DIR/none" trains talking
check "nor of one that the compiler talks about" [ ! -s err ]
same usual talking
with "STUB_HANG=clBuildProgram LUNETTE_CACHE=$DIR/none" fails 'has not answered for 1 seconds (making kernels ready)' --steps 1 --hang-timeout 1

# ---- Sizes of work-groups (E6)

with STUB_GPU=1 trains gpu
check "a GPU has many items" [ "$(reported longest)" -gt 100 ]
for sizes in STUB_GROUP=1 STUB_GROUP=7 STUB_ALONG=5 STUB_KERNEL_GROUP=3 STUB_KERNEL_GROUP=1 "STUB_GROUP=63 STUB_ALONG=63 STUB_KERNEL_GROUP=48"; do
    with "STUB_GPU=1 $sizes" trains sizes
    same gpu sizes
done
# Kernels with groups of 256 decline, each in its way, and others do their work.
checks=$((checks + 1))
with "STUB_GPU=1 STUB_GROUP=256 STUB_ALONG=256 STUB_KERNEL_GROUP=48 STUB_LOCAL=32768" "$opcheck" test --device opencl --op attention >out 2>&1
grep -q 'tile 0, direct 44' out && grep -q ' 0 failures' out || fail "attention on a device with kernels of at most 48 items"
checks=$((checks + 1))
with "STUB_GPU=1 STUB_GROUP=128 STUB_ALONG=128 STUB_KERNEL_GROUP=128 STUB_LOCAL=32768" "$opcheck" test --device opencl --op attention >out 2>&1
grep -q 'tile 0, direct 44' out && grep -q ' 0 failures' out || fail "attention on a device with groups of at most 128 items"
with "STUB_GPU=1 STUB_KERNEL_GROUP=0" fails 'runs at most 0 work-items a group' --steps 1 --no-doctor

# ---- Kernels and drivers that hang (E8)

for hang in clFinish:1 clEnqueueReadBuffer:1 clEnqueueReadBuffer:20 clEnqueueNDRangeKernel:50 clEnqueueNDRangeKernel:200; do
    rm -rf hung
    with "STUB_HANG=${hang%:*} STUB_HANG_AT=${hang#*:}" run train pictures --out hung $options --steps 2 --no-doctor --hang-timeout 0.6
    check "$hang: exit 5 and not $code" [ $code = 5 ]
    check "$hang: one line" [ "$(wc -l <err)" = 1 ]
    check "$hang: it says what hangs" grep -q '^lunette: error: the device has not answered for 0.6 seconds (.*): it or its driver hangs; the checkpoints in hung are intact' err
    if ls hung/checkpoints/*.safetensors >/dev/null 2>&1; then
        succeeds info hung --verify
        succeeds train pictures --out hung --resume --device opencl --steps 2 --sample-every 0
        same usual hung
        finished=$hang
    fi
done
check "some of them leave a checkpoint" [ -n "${finished:-}" ]
with "STUB_HANG=clFinish LUNETTE_CACHE=$DIR/none" fails 'has not answered for 0.6 seconds' --steps 1 --hang-timeout 0.6

# hung WHAT ARGUMENTS...: the command ends with exit 5 and says what hangs for how long
hung()
{
    what=$1
    shift
    run "$@"
    check "$what: exit 5 and not $code" [ $code = 5 ]
    check "$what: it says what hangs" grep -qE '^lunette: error: the device has not answered for (0.6|600) seconds \(.*\): it or its driver hangs$' err
}

golden=$tests/../model/golden
small="--size 8 --channels 4,4 --batch 2"
"$LUNETTE" train pictures --out drawn $net --device cpu --diffusion-steps 20 --sample-every 0 --steps 1 --no-doctor >/dev/null
for hang in clFinish clEnqueueNDRangeKernel; do
    export STUB_HANG=$hang
    hung "$hang, sample" sample drawn --out drawn.png --count 1 --device opencl --hang-timeout 0.6
    hung "$hang, bench" bench train $small --steps 1 --device opencl --hang-timeout 0.6
    hung "$hang, tune" tune $small --device opencl --hang-timeout 0.6
    hung "$hang, plan" plan notebook $small --device opencl --hang-timeout 0.6
    hung "$hang, predict" predict "$golden/ddpm.model.safetensors" "$golden/ddpm.in.safetensors" out.safetensors --device opencl --hang-timeout 0.6
    hung "$hang, doctor" doctor $small --device opencl --hang-timeout 0.6
    unset STUB_HANG
done
rm -f drawn.png
with "STUB_GPU=1 STUB_HANG=clEnqueueNDRangeKernel FAULT_CLOCK=fast LD_PRELOAD=$shim" hung "a GPU, unasked" sample drawn --out drawn.png --count 1 --device opencl
check "no picture was begun" [ ! -e drawn.png ]

# ---- Launches that a screen has to wait for (E15)

with STUB_GPU=1 trains whole
launches=$(reported launches)
with "STUB_GPU=1 LUNETTE_LAUNCH_MS=0.0001" trains parts
check "more launches than $launches" [ "$(reported launches)" -gt $((2 * launches)) ]
same whole parts
with LUNETTE_LAUNCH_MS=0.0001 trains parts
same usual parts
trains parts
few=$(reported launches)
for text in 1,5 -1 1e10 nan fast 5ms; do
    with "LUNETTE_LAUNCH_MS=$text" refuses 2 'LUNETTE_LAUNCH_MS must be a number' doctor --device opencl $net
done
check "a CPU draws nothing" [ "$few" -lt $((2 * launches)) ]

# ---- Starts and ends (E13)

checks=$((checks + 1))
GLIBC_TUNABLES=glibc.malloc.tcache_count=0 "$opens" 1000 "$icd" >out 2>err || fail "a thousand opens and closes"
check "no object is left" [ "$(reported live)" = 0 ]
finish
