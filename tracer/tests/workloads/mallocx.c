/* mallocx: jemalloc's functions with flags. With PREFIX they are behind one, and libc's malloc is another allocator. */
#include "truth.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#ifdef PREFIX
#define JE(name) JOIN(PREFIX, name)
#else
#define JE(name) name
#endif

void *JE(mallocx)(size_t, int);
void *JE(rallocx)(void *, size_t, int);
size_t JE(xallocx)(void *, size_t, size_t, int);
void JE(dallocx)(void *, int);
void JE(sdallocx)(void *, size_t, int);
void *JE(malloc)(size_t);
void *JE(realloc)(void *, size_t);
void *JE(calloc)(size_t, size_t);
void JE(free)(void *);

/* As jemalloc.h has them. */
#define LG_ALIGN(n) (n)
#define ZERO 0x40
#define TCACHE_NONE ((int)((-1U + 2) << 8))

static site *s_plain, *s_aligned, *s_uncached, *s_grown, *s_shrunk, *s_extended, *s_refused, *s_origin, *s_malloc,
    *s_calloc, *s_realloc;

static volatile size_t huge = (size_t)-1 / 4;

static void *kept(site *of, void *at, long bytes) {
    KEEP(at);
    if (at == NULL) _exit(5);
    took(of, bytes);
    return at;
}

FRAME static void by_mallocx(long n) {
    void *at = kept(s_plain, JE(mallocx)((size_t)n, 0), n);
    if (n % 2) {
        gave(s_plain, n);
        JE(dallocx)(at, 0);
    }
}

FRAME static void by_mallocx_aligned(long n) {
    void *at = kept(s_aligned, JE(mallocx)((size_t)n, LG_ALIGN(8) | ZERO), n);
    if (n % 2) {
        gave(s_aligned, n);
        JE(sdallocx)(at, (size_t)n, LG_ALIGN(8));
    }
}

FRAME static void by_mallocx_uncached(long n) {
    void *at = kept(s_uncached, JE(mallocx)((size_t)n * 5000, TCACHE_NONE), n * 5000);
    if (n % 2) {
        gave(s_uncached, n * 5000);
        JE(dallocx)(at, TCACHE_NONE);
    }
}

FRAME static void *origin(long bytes) { return kept(s_origin, JE(mallocx)((size_t)bytes, 0), bytes); }

FRAME static void by_rallocx(long n) {
    void *at = origin(n);
    gave(s_origin, n);
    at = kept(s_grown, JE(rallocx)(at, (size_t)n * 100, 0), n * 100);
    if (JE(rallocx)(at, huge, 0) != NULL) _exit(6);
    if (n % 2) {
        gave(s_grown, n * 100);
        JE(sdallocx)(at, (size_t)n * 100, 0);
    }
}

FRAME static void by_rallocx_shrinking(long n) {
    void *at = origin(n * 200);
    gave(s_origin, n * 200);
    at = kept(s_shrunk, JE(rallocx)(at, (size_t)n, 0), n);
    if (n % 2) {
        gave(s_shrunk, n);
        JE(free)(at);
    }
}

/* Within its size class a block can grow where it is. */
FRAME static void by_xallocx(long n) {
    void *at = origin(8000 + n);
    if (JE(xallocx)(at, (size_t)(8100 + n), 0, 0) < (size_t)(8100 + n)) _exit(5);
    gave(s_origin, 8000 + n);
    took(s_extended, 8100 + n);
    if (n % 2) {
        gave(s_extended, 8100 + n);
        JE(dallocx)(at, 0);
    }
}

/* A small block cannot become large where it is: it stays what it was. */
FRAME static void by_xallocx_in_vain(long n) {
    void *at = kept(s_refused, JE(mallocx)((size_t)n, 0), n);
    if (JE(xallocx)(at, 3000000, 0, 0) >= 3000000) _exit(6);
    if (n % 2) {
        gave(s_refused, n);
        JE(dallocx)(at, 0);
    }
}

FRAME static void by_malloc(long n) {
    void *at = kept(s_malloc, JE(malloc)((size_t)n), n);
    if (n % 2) {
        gave(s_malloc, n);
        JE(free)(at);
    }
}

FRAME static void by_calloc(long n) {
    void *at = kept(s_calloc, JE(calloc)((size_t)n, 3), n * 3);
    gave(s_calloc, n * 3);
    at = kept(s_realloc, JE(realloc)(at, (size_t)n * 9), n * 9);
    if (n % 2) {
        gave(s_realloc, n * 9);
        JE(free)(at);
    }
}

#ifdef PREFIX
static site *s_libc;
FRAME static void by_libc(long n) {
    void *at = kept(s_libc, malloc((size_t)n), n);
    if (n % 2) {
        gave(s_libc, n);
        free(at);
    }
}
#endif

FRAME static void work(void) {
    s_plain = heap("mallocx", "by_mallocx;work;main");
    s_aligned = heap("mallocx", "by_mallocx_aligned;work;main");
    s_uncached = heap("mallocx", "by_mallocx_uncached;work;main");
    s_grown = heap("rallocx", "by_rallocx;work;main");
    s_shrunk = heap("rallocx", "by_rallocx_shrinking;work;main");
    s_extended = heap("xallocx", "by_xallocx;work;main");
    s_refused = heap("mallocx", "by_xallocx_in_vain;work;main");
    s_origin = heap("mallocx", "origin;*;work;main");
    s_malloc = heap("malloc", "by_malloc;work;main");
    s_calloc = heap("calloc", "by_calloc;work;main");
    s_realloc = heap("realloc", "by_calloc;work;main");
#ifdef PREFIX
    s_libc = heap("malloc", "by_libc;work;main");
#endif
    for (long n = 1; n <= 80; n++) {
        by_mallocx(n);
        by_mallocx_aligned(n);
        by_mallocx_uncached(n);
        by_rallocx(n);
        by_rallocx_shrinking(n);
        by_xallocx(n);
        by_xallocx_in_vain(n);
        by_malloc(n);
        by_calloc(n);
#ifdef PREFIX
        by_libc(n);
#endif
    }
}

int main(void) {
    static void *older[9];
    for (int at = 0; at < 9; at++) older[at] = JE(mallocx)(100, 0);
    wait_for_go();
    for (int at = 0; at < 9; at++) {
        if (at % 3 == 0) JE(free)(older[at]);
        if (at % 3 == 1) JE(dallocx)(older[at], 0);
        if (at % 3 == 2) JE(sdallocx)(older[at], 100, 0);
        truth_older++;
    }
    work();
    say("covers work\n");
    finish();
    return 0;
}
