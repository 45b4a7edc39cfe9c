/* calls: every allocation function of the C library, with results of every kind. Each call has a caller
 * of its own, so that each is a site of its own. */
#include "truth.h"
#include <errno.h>
#include <malloc.h>

#define ROUNDS 40

/* Sizes the compiler cannot see through. */
static volatile size_t huge = (size_t)-1 / 2 + 1;
static volatile size_t zero = 0;

typedef struct block {
    void *at;
    long bytes;
    site *of;
} block;

static block keep(site *of, void *at, long bytes) {
    KEEP(at);
    if (at == NULL) _exit(5);
    took(of, bytes);
    return (block){at, bytes, of};
}

static void expect_failure(void *at) {
    KEEP(at);
    if (at != NULL) _exit(6);
}

static void release(block it) {
    gave(it.of, it.bytes);
    free(it.at);
}

/* Half of them stay. */
static void half(block it, long round) {
    if (round % 2) release(it);
}

FRAME static void by_malloc(site *s, long n) { half(keep(s, malloc((size_t)n), n), n); }
FRAME static void by_malloc_of_zero(site *s, long n) { half(keep(s, malloc(zero), 0), n); }
FRAME static void by_calloc(site *s, long n) { half(keep(s, calloc((size_t)n, 24), n * 24), n); }
FRAME static void by_aligned_alloc(site *s, long n) { half(keep(s, aligned_alloc(64, (size_t)n * 64), n * 64), n); }
FRAME static void by_memalign(site *s, long n) { half(keep(s, memalign(256, (size_t)n), n), n); }
FRAME static void by_valloc(site *s, long n) { half(keep(s, valloc((size_t)n), n), n); }
/* pvalloc rounds up to pages by itself; what was asked for is what counts. Where the allocator does not define it,
 * it does not exist, or is another one's, whose blocks this one cannot free. */
#ifndef NO_PVALLOC
FRAME static void by_pvalloc(site *s, long n) { half(keep(s, pvalloc((size_t)n), n), n); }
#endif

FRAME static void by_posix_memalign(site *s, long n) {
    void *at = NULL;
    if (posix_memalign(&at, 128, (size_t)n) != 0) _exit(5);
    half(keep(s, at, n), n);
}

FRAME static void by_realloc_of_null(site *s, long n) {
    void *none = NULL;
    KEEP(none);
    half(keep(s, realloc(none, (size_t)n), n), n);
}

FRAME static block by_origin(site *s, long n) { return keep(s, malloc((size_t)n), n); }

FRAME static void by_growing(site *s, site *origin, long n) {
    block old = by_origin(origin, n);
    gave(old.of, old.bytes);
    half(keep(s, realloc(old.at, (size_t)n * 50), n * 50), n);
}

FRAME static void by_shrinking(site *s, site *origin, long n) {
    block old = by_origin(origin, n * 100);
    gave(old.of, old.bytes);
    half(keep(s, realloc(old.at, (size_t)n), n), n);
}

/* glibc frees the block and returns NULL; others return a block of no bytes. */
FRAME static void by_realloc_to_zero(site *s, site *origin, long n) {
    block old = by_origin(origin, n);
    gave(old.of, old.bytes);
    void *at = realloc(old.at, zero);
    KEEP(at);
    if (at != NULL) half(keep(s, at, 0), n);
}

/* The old block stays, and is still worth its old size. */
FRAME static void by_failing_realloc(site *origin, long n) {
    block old = by_origin(origin, n);
    expect_failure(realloc(old.at, huge));
    half(old, n);
}

FRAME static void by_reallocarray(site *s, site *origin, long n) {
    block old = by_origin(origin, n);
    gave(old.of, old.bytes);
    half(keep(s, reallocarray(old.at, (size_t)n, 48), n * 48), n);
}

FRAME static void by_failing_reallocarray(site *origin, long n) {
    block old = by_origin(origin, n);
    expect_failure(reallocarray(old.at, huge, 16));
    half(old, n);
}

/* None of these is an allocation. */
FRAME static void by_failing(void) {
    expect_failure(malloc(huge));
    expect_failure(calloc(huge, 2));
    expect_failure(aligned_alloc(64, huge));
    expect_failure(memalign(64, huge));
    expect_failure(valloc(huge));
#ifndef NO_PVALLOC
    expect_failure(pvalloc(huge));
#endif
    void *none = NULL;
    KEEP(none);
    expect_failure(realloc(none, huge));
    void *untouched = NULL;
    if (posix_memalign(&untouched, 3, 64) != EINVAL) _exit(6);
    if (posix_memalign(&untouched, 64, huge) != ENOMEM) _exit(6);
    expect_failure(untouched);
    free(untouched);
}

FRAME static void work(void) {
    site *s_malloc = heap("malloc", "by_malloc;work;main");
    site *s_zero = heap("malloc", "by_malloc_of_zero;work;main");
    site *s_calloc = heap("calloc", "by_calloc;work;main");
    /* One function of two names in many versions of the library. */
    site *s_aligned = heap("aligned_alloc|memalign", "by_aligned_alloc;work;main");
    site *s_memalign = heap("aligned_alloc|memalign", "by_memalign;work;main");
    site *s_valloc = heap("valloc", "by_valloc;work;main");
#ifndef NO_PVALLOC
    site *s_pvalloc = heap("pvalloc", "by_pvalloc;work;main");
#endif
    site *s_posix = heap("posix_memalign", "by_posix_memalign;work;main");
    site *s_null = heap("malloc|realloc", "by_realloc_of_null;work;main");
    site *s_growing = heap("realloc", "by_growing;work;main");
    site *s_growing_origin = heap("malloc", "by_origin;by_growing;work;main");
    site *s_shrinking = heap("realloc", "by_shrinking;work;main");
    site *s_shrinking_origin = heap("malloc", "by_origin;by_shrinking;work;main");
    site *s_to_zero = heap("realloc", "by_realloc_to_zero;work;main");
    site *s_to_zero_origin = heap("malloc", "by_origin;by_realloc_to_zero;work;main");
    site *s_failing = heap("malloc", "by_origin;by_failing_realloc;work;main");
    site *s_array = heap("realloc|reallocarray", "**;by_reallocarray;work;main");
    site *s_array_origin = heap("malloc", "by_origin;by_reallocarray;work;main");
    site *s_failing_array = heap("malloc", "by_origin;by_failing_reallocarray;work;main");
    for (long n = 1; n <= ROUNDS; n++) {
        by_malloc(s_malloc, n);
        by_malloc_of_zero(s_zero, n);
        by_calloc(s_calloc, n);
        by_aligned_alloc(s_aligned, n);
        by_memalign(s_memalign, n);
        by_valloc(s_valloc, n);
#ifndef NO_PVALLOC
        by_pvalloc(s_pvalloc, n);
#endif
        by_posix_memalign(s_posix, n);
        by_realloc_of_null(s_null, n);
        by_growing(s_growing, s_growing_origin, n);
        by_shrinking(s_shrinking, s_shrinking_origin, n);
        by_realloc_to_zero(s_to_zero, s_to_zero_origin, n);
        by_failing_realloc(s_failing, n);
        by_reallocarray(s_array, s_array_origin, n);
        by_failing_reallocarray(s_failing_array, n);
        by_failing();
    }
}

int main(void) {
    static void *older[17];
    for (int at = 0; at < 17; at++) older[at] = malloc(100);
    wait_for_go();
    for (int at = 0; at < 17; at++) {
        free(older[at]);
        truth_older++;
    }
    work();
    say("covers work\n");
    finish();
    return 0;
}
