#include "peak.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

#define MAX_WORKERS 1024
#define RUNS        6
#define CHUNK       200000 /* rounds between two looks at the clock; about 1 ms */
#define RUN_SECONDS 0.06

/* Twelve accumulators hide the latency of two multiply-add units (four or five cycles each); more would spill. */
#define ACCUMULATORS 12
#define EACH(X)      X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

typedef float (*round_fn)(int rounds, float seed);

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>

__attribute__((target("avx512f"))) static float rounds_avx512(int rounds, float seed)
{
    const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(seed);
#define START(i) __m512 v##i = _mm512_set1_ps(seed + (float)i);
    EACH(START)
    for (int r = 0; r < rounds; r++) {
#define STEP(i) v##i = _mm512_fmadd_ps(v##i, a, b);
        EACH(STEP)
    }
#define SUM(i) total = _mm512_add_ps(total, v##i);
    __m512 total = b;
    EACH(SUM)
    float lanes[16];
    _mm512_storeu_ps(lanes, total);
    return lanes[0] + lanes[15];
#undef START
#undef STEP
#undef SUM
}

__attribute__((target("avx2,fma"))) static float rounds_avx2(int rounds, float seed)
{
    const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(seed);
#define START(i) __m256 v##i = _mm256_set1_ps(seed + (float)i);
    EACH(START)
    for (int r = 0; r < rounds; r++) {
#define STEP(i) v##i = _mm256_fmadd_ps(v##i, a, b);
        EACH(STEP)
    }
#define SUM(i) total = _mm256_add_ps(total, v##i);
    __m256 total = b;
    EACH(SUM)
    float lanes[8];
    _mm256_storeu_ps(lanes, total);
    return lanes[0] + lanes[7];
#undef START
#undef STEP
#undef SUM
}

static round_fn choose(int *lanes)
{
    if (__builtin_cpu_supports("avx512f")) {
        *lanes = 16;
        return rounds_avx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        *lanes = 8;
        return rounds_avx2;
    }
    return NULL;
}
#elif defined(__aarch64__)
#include <arm_neon.h>

static float rounds_neon(int rounds, float seed)
{
    const float32x4_t a = vdupq_n_f32(0.999f), b = vdupq_n_f32(seed);
#define START(i) float32x4_t v##i = vdupq_n_f32(seed + (float)i);
    EACH(START)
    for (int r = 0; r < rounds; r++) {
#define STEP(i)  v##i = vfmaq_f32(b, v##i, a);
        EACH(STEP)
    }
#define SUM(i)   total = vaddq_f32(total, v##i);
    float32x4_t total = b;
    EACH(SUM)
    return vaddvq_f32(total);
#undef START
#undef STEP
#undef SUM
}

static round_fn choose(int *lanes)
{
    *lanes = 4;
    return rounds_neon;
}
#else
static round_fn choose(int *lanes)
{
    *lanes = 0;
    return NULL;
}
#endif

typedef struct worker {
    round_fn rounds;
    double until; /* all stop at the same time, so that all of them run all the time */
    double rate;  /* rounds per second of this thread's own processor time: other programs do not lower the peak */
    float sink;
} worker;

static double thread_seconds(void)
{
    struct timespec now;
    return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0 ? (double)now.tv_sec + 1e-9 * (double)now.tv_nsec
                                                             : lun_clock();
}

static void *work(void *payload)
{
    worker *w = payload;
    const double start = thread_seconds();
    double done = 0;
    while (lun_clock() < w->until) {
        w->sink += w->rounds(CHUNK, 1e-3f);
        done += CHUNK;
    }
    const double took = thread_seconds() - start;
    w->rate = took > 0 ? done / took : 0;
    return NULL;
}

static double measure(round_fn rounds, int lanes, int threads)
{
    static worker workers[MAX_WORKERS];
    pthread_t ids[MAX_WORKERS];
    int started = 0;
    const double start = lun_clock();
    for (; started < threads; started++) {
        workers[started] = (worker){.rounds = rounds, .until = start + RUN_SECONDS};
        if (pthread_create(&ids[started], NULL, work, &workers[started]) != 0)
            break;
    }
    double total = 0;
    for (int i = 0; i < started; i++) {
        pthread_join(ids[i], NULL);
        total += workers[i].rate;
    }
    return started == threads ? total * ACCUMULATORS * lanes * 2 : 0;
}

double peak_flops(int threads)
{
    int lanes = 0;
    double best = 0;
    const round_fn rounds = choose(&lanes);
    if (!rounds || threads < 1 || threads > MAX_WORKERS)
        return 0;
    for (int run = 0; run < RUNS; run++) {
        const double flops = measure(rounds, lanes, threads);
        best = flops > best ? flops : best;
    }
    return best;
}

/* ---- Copying
 * --------------------------------------------------------------------------------------------------------------- */

typedef struct copier {
    char *dst;
    const char *src;
    size_t bytes;
    double until, rate;
} copier;

/* In the thread's own time, as above. On a machine that is busy otherwise this is an upper bound: the others' share of
 * the memory's bandwidth may be counted while this thread waits for its turn. */
static void *copy_some(void *payload)
{
    copier *c = payload;
    const double start = thread_seconds();
    double done = 0;
    while (lun_clock() < c->until) {
        memcpy(c->dst, c->src, c->bytes);
        done += 2.0 * (double)c->bytes;
    }
    const double took = thread_seconds() - start;
    c->rate = took > 0 ? done / took : 0;
    return NULL;
}

static double measure_copy(char *buffer, size_t bytes, int threads)
{
    static copier copiers[MAX_WORKERS];
    pthread_t ids[MAX_WORKERS];
    const size_t half = bytes / 2, part = half / (size_t)threads;
    const double start = lun_clock();
    int started = 0;
    for (; started < threads; started++) {
        const size_t at = (size_t)started * part;
        copiers[started] =
            (copier){.dst = buffer + half + at, .src = buffer + at, .bytes = part, .until = start + RUN_SECONDS};
        if (pthread_create(&ids[started], NULL, copy_some, &copiers[started]) != 0)
            break;
    }
    double total = 0;
    for (int i = 0; i < started; i++) {
        pthread_join(ids[i], NULL);
        total += copiers[i].rate;
    }
    return started == threads ? total : 0;
}

double peak_copy(int threads)
{
    if (threads < 1 || threads > MAX_WORKERS)
        return 0;
    /* Eight times the last cache, both halves together. */
    long cache = -1;
#ifdef _SC_LEVEL3_CACHE_SIZE
    cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
    size_t bytes = (size_t)128 << 20;
    if (cache > 0 && (size_t)cache * 8 > bytes)
        bytes = (size_t)cache * 8;
    if (bytes > (size_t)512 << 20)
        bytes = (size_t)512 << 20;
    char *buffer = malloc(bytes);
    if (!buffer)
        return 0;
    memset(buffer, 1, bytes); /* real pages */
    double best = 0;
    for (int run = 0; run < RUNS; run++) {
        const double copied = measure_copy(buffer, bytes, threads);
        best = copied > best ? copied : best;
    }
    free(buffer);
    return best;
}
