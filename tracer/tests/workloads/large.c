/* large: blocks for which the allocator makes and moves mappings of its own; those are not sites. */
#include "truth.h"

#define MIB (1L << 20)

static site *s_block, *s_zeroed, *s_start, *s_grow, *s_shrink;

FRAME static void *block(long bytes) {
    void *at = malloc((size_t)bytes);
    KEEP(at);
    if (at == NULL) _exit(5);
    took(s_block, bytes);
    return at;
}

FRAME static void *zeroed(long bytes) {
    void *at = calloc(1, (size_t)bytes);
    KEEP(at);
    if (at == NULL) _exit(5);
    took(s_zeroed, bytes);
    return at;
}

FRAME static void *start(long bytes) {
    void *at = malloc((size_t)bytes);
    KEEP(at);
    if (at == NULL) _exit(5);
    took(s_start, bytes);
    return at;
}

FRAME static void *grow(void *old, site *from, long old_bytes, long bytes) {
    gave(from, old_bytes);
    void *at = realloc(old, (size_t)bytes);
    KEEP(at);
    if (at == NULL) _exit(5);
    took(s_grow, bytes);
    return at;
}

FRAME static void *shrink(void *old, site *from, long old_bytes, long bytes) {
    gave(from, old_bytes);
    void *at = realloc(old, (size_t)bytes);
    KEEP(at);
    if (at == NULL) _exit(5);
    took(s_shrink, bytes);
    return at;
}

FRAME static void work(void) {
    s_block = heap("malloc", "block;work;main");
    s_zeroed = heap("calloc", "zeroed;work;main");
    s_start = heap("malloc", "start;work;main");
    s_grow = heap("realloc", "grow;work;main");
    s_shrink = heap("realloc", "shrink;work;main");
    void *kept[8];
    for (int at = 0; at < 8; at++) kept[at] = block(MIB + at);
    for (int at = 0; at < 8; at += 3) {
        gave(s_block, MIB + at);
        free(kept[at]);
    }
    for (int at = 0; at < 5; at++) zeroed(2 * MIB + at);
    for (int round = 0; round < 3; round++) {
        long bytes = MIB + round;
        site *of = s_start;
        void *at = start(bytes);
        memset(at, 1, (size_t)bytes);
        while (bytes < 32 * MIB) {
            at = grow(at, of, bytes, bytes * 2);
            of = s_grow;
            bytes *= 2;
        }
        at = shrink(at, of, bytes, 3000);
        at = grow(at, s_shrink, 3000, 4 * MIB);
        if (round == 1) {
            gave(s_grow, 4 * MIB);
            free(at);
        }
    }
    /* Nothing but the heap was asked for. */
    say("site mmap * 0 0 0 0 **;work;main\n");
}

int main(void) {
    wait_for_go();
    work();
    say("covers work\n");
    finish();
    return 0;
}
