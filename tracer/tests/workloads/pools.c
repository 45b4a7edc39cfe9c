/* pools: allocators of a program's own, which carve what they hand out from slabs of malloc. The first block of a slab
 * lies where the slab lies, and a slab is taken inside a pool's function. */
#include "truth.h"

#define ROUNDS 300
#define SLAB_BYTES 4096

/* Blocks of any size, with a list of free ones for each of a few classes. */
typedef struct pool {
    char *slab;
    size_t used;
    void *free_blocks[8];
    long slabs;
} pool;

static size_t class_of(size_t bytes) { return bytes <= 64 ? 0 : bytes <= 256 ? 1 : 2; }
static const size_t class_bytes[] = {64, 256, 1024};

FRAME void *pool_get(pool *from, size_t bytes) {
    size_t class = class_of(bytes);
    void **kept = from->free_blocks[class];
    if (kept) {
        from->free_blocks[class] = *kept;
        return kept;
    }
    if (from->slab == NULL || from->used + class_bytes[class] > SLAB_BYTES) {
        from->slab = malloc(SLAB_BYTES);
        if (from->slab == NULL) return NULL;
        from->used = 0;
        from->slabs++;
    }
    void *block = from->slab + from->used;
    from->used += class_bytes[class];
    return block;
}

/* By sizes, so that each block goes back to its list. */
FRAME void pool_put(pool *to, void *block, size_t bytes) {
    if (block == NULL) return;
    size_t class = class_of(bytes);
    *(void **)block = to->free_blocks[class];
    to->free_blocks[class] = block;
}

FRAME void *pool_grow(pool *in, void *old, size_t old_bytes, size_t bytes) {
    void *block = pool_get(in, bytes);
    if (old && block) {
        memcpy(block, old, old_bytes < bytes ? old_bytes : bytes);
        pool_put(in, old, old_bytes);
    }
    return block;
}

/* Objects of one size: what a call hands out is said by no argument. Each lies in a block of malloc, and goes back to
 * it, by jumps. */
__attribute__((noipa)) void *object_new(void) { return malloc(48); }
__attribute__((noipa)) void object_delete(void *object) { free(object); }

/* An array of objects; the result is stored, and what is returned says whether there is one. */
FRAME int objects_new(void **objects, unsigned count) {
    if (count > 1000) return -1;
    *objects = malloc(48 * (size_t)count);
    return 0;
}

typedef struct block {
    void *at;
    long bytes;
    site *of;
} block;

static pool common;

static block keep(site *of, void *at, long bytes) {
    KEEP(at);
    if (at == NULL) _exit(5);
    took(of, bytes);
    return (block){at, bytes, of};
}

FRAME static block by_get(site *s, long n) { return keep(s, pool_get(&common, (size_t)n), n); }
FRAME static block by_malloc(site *s, long n) { return keep(s, malloc((size_t)n), n); }

FRAME static block by_grow(site *s, block old, long n) {
    gave(old.of, old.bytes);
    return keep(s, pool_grow(&common, old.at, (size_t)old.bytes, (size_t)n), n);
}

FRAME static block by_new(site *s) {
    void *at = object_new();
    return keep(s, at, 48);
}

FRAME static block by_out(site *s, unsigned count) {
    void *objects = NULL;
    if (objects_new(&objects, count) != 0) _exit(5);
    return keep(s, objects, 48L * count);
}

FRAME static void by_failure(void) {
    void *objects = NULL;
    if (objects_new(&objects, 5000) == 0) _exit(6);
}

FRAME static void put(block it) {
    gave(it.of, it.bytes);
    pool_put(&common, it.at, (size_t)it.bytes);
}

int main(void) {
    site *get = heap("pool_get", "by_get;main");
    site *grow = heap("pool_grow", "by_grow;main");
    site *new = heap("object_new", "by_new;main");
    site *out = heap("objects_new", "by_out;main");
    site *plain = heap("malloc", "by_malloc;main");
    wait_for_go();
    for (long round = 1; round <= ROUNDS; round++) {
        block first = by_get(get, round % 900 + 1);
        block second = by_get(get, 32);
        block third = by_grow(grow, first, round % 1000 + 8);
        if (round % 3) put(third);
        if (round % 2) put(second);
        pool_put(&common, NULL, 8);

        block object = by_new(new);
        if (round % 4) {
            gave(new, 48);
            object_delete(object.at);
        }
        block objects = by_out(out, (unsigned)(round % 20 + 1));
        if (round % 5) {
            gave(out, objects.bytes);
            object_delete(objects.at);
        }
        by_failure();

        block ordinary = by_malloc(plain, round);
        if (round % 2) {
            gave(plain, round);
            free(ordinary.at);
        }
    }
    say("covers main\n");
    finish();
    return 0;
}
