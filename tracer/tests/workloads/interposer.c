/* interposer: a library that stands before the allocator, as profilers and debuggers do. With HEADER each block has one
 * in front of it, so that the addresses differ from those of the allocator behind. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef HEADER
#define HEADER 0
#endif

static void *(*next_malloc)(size_t);
static void *(*next_calloc)(size_t, size_t);
static void *(*next_realloc)(void *, size_t);
static void *(*next_memalign)(size_t, size_t);
static void (*next_free)(void *);
static volatile long calls;

static void find(void) {
    if (next_free != NULL) return;
    next_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    next_calloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
    next_realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
    next_memalign = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "memalign");
    next_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
}

static void note(void) { __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED); }

/* The header holds the distance to the start of the block behind. */
static void *user(char *raw, size_t distance) {
    if (raw == NULL || HEADER == 0) return raw;
    memcpy(raw + distance - sizeof distance, &distance, sizeof distance);
    return raw + distance;
}

static char *raw(void *at) {
    size_t distance = 0;
    if (HEADER != 0) memcpy(&distance, (char *)at - sizeof distance, sizeof distance);
    return (char *)at - distance;
}

void *malloc(size_t bytes) {
    find();
    note();
    if (bytes + HEADER < bytes) return NULL;
    return user(next_malloc(bytes + HEADER), HEADER);
}

void *calloc(size_t count, size_t bytes) {
    find();
    note();
    if (HEADER == 0) return next_calloc(count, bytes);
    if (__builtin_mul_overflow(count, bytes, &bytes) || bytes + HEADER < bytes) return NULL;
    return user(next_calloc(1, bytes + HEADER), HEADER);
}

void *realloc(void *at, size_t bytes) {
    find();
    note();
    if (HEADER == 0) return next_realloc(at, bytes);
    if (bytes + HEADER < bytes) return NULL;
    return user(next_realloc(at == NULL ? NULL : raw(at), bytes + HEADER), HEADER);
}

void *memalign(size_t alignment, size_t bytes) {
    find();
    note();
    if (HEADER == 0) return next_memalign(alignment, bytes);
    size_t distance = alignment > HEADER ? alignment : HEADER;
    return user(next_memalign(alignment, bytes + distance), distance);
}

void *aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }

int posix_memalign(void **out, size_t alignment, size_t bytes) {
    if (alignment < sizeof(void *) || (alignment & (alignment - 1))) return EINVAL;
    void *at = memalign(alignment, bytes);
    if (at == NULL) return ENOMEM;
    *out = at;
    return 0;
}

void free(void *at) {
    find();
    note();
    if (at == NULL) return;
    /* What a profiler does for itself on the way is nobody's allocation. */
    next_free(next_malloc(24));
    next_free(raw(at));
}
