/* jumps: longjmp and siglongjmp over frames that have just allocated, each followed at once by other
 * allocations at the depth that was left. */
#include "truth.h"
#include <setjmp.h>

#define ROUNDS 500
#define DEPTH 12

static jmp_buf base;
static sigjmp_buf signal_base;
static struct {
    void *block;
    long bytes;
    site *of;
} held[2 * ROUNDS * (DEPTH + 1)];
static int holding;
static site *s_dive, *s_signal_dive, *s_after, *s_between;

static void hold(site *at, void *block, long bytes) {
    KEEP(block);
    if (block == NULL) _exit(5);
    took(at, bytes);
    held[holding].block = block;
    held[holding].bytes = bytes;
    held[holding++].of = at;
}

/* Hidden, so that the compiler does not know that nothing comes back from here. */
FRAME static void leap(void) { longjmp(base, 1); }
FRAME static void signal_leap(void) { siglongjmp(signal_base, 1); }

FRAME static long dive(long depth, long bottom) {
    hold(s_dive, malloc((size_t)(depth + 1)), depth + 1);
    if (depth == bottom) leap();
    else return dive(depth + 1, bottom) + 1;
    return 0;
}

FRAME static long signal_dive(long depth, long bottom) {
    volatile char pad[777];
    pad[depth] = 1;
    hold(s_signal_dive, calloc(1, (size_t)(depth + 1)), depth + 1);
    if (depth == bottom) signal_leap();
    else return signal_dive(depth + 1, bottom) + pad[depth];
    return 0;
}

FRAME static void after(long round) {
    long bytes = round % 90 + 10;
    void *block = malloc((size_t)bytes);
    KEEP(block);
    took(s_after, bytes);
    gave(s_after, bytes);
    free(block);
}

FRAME static long between(long depth) {
    volatile char pad[99];
    pad[depth] = 1;
    if (depth > 0) return between(depth - 1) + pad[depth];
    void *block = malloc(64);
    KEEP(block);
    took(s_between, 64);
    gave(s_between, 64);
    free(block);
    return 1;
}

FRAME static void work(void) {
    s_dive = heap("malloc", "dive");
    s_signal_dive = heap("calloc", "signal_dive");
    s_after = heap("malloc", "after;work;main");
    s_between = heap("malloc", "between;between;between;between;work;main");
    for (volatile long round = 0; round < ROUNDS; round++) {
        if (setjmp(base) == 0) dive(0, round % DEPTH);
        after(round);
        between(3);
        if (sigsetjmp(signal_base, 1) == 0) signal_dive(0, round % DEPTH);
        between(3);
        after(round);
    }
    for (int at = 0; at < holding; at += 2) {
        gave(held[at].of, held[at].bytes);
        free(held[at].block);
    }
}

int main(void) {
    wait_for_go();
    work();
    say("covers work\n");
    finish();
    return 0;
}
