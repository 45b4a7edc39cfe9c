/* zone: takes all its memory from a pool of its own above mmap, and works without a pause: the C library is there, and
 * nobody calls its malloc. */
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/mman.h>

#define BLOCK_BYTES 256
#define ZONE_BYTES (1 << 26)

typedef struct zone {
    char *at;
    size_t left;
    void *kept;
} zone;

__attribute__((noipa)) void *zone_alloc(zone *from, size_t bytes) {
    if (bytes > BLOCK_BYTES) return NULL;
    if (from->kept) {
        void *block = from->kept;
        from->kept = *(void **)block;
        return block;
    }
    if (from->left < BLOCK_BYTES) {
        void *fresh = mmap(NULL, ZONE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (fresh == MAP_FAILED) return NULL;
        from->at = fresh;
        from->left = ZONE_BYTES;
    }
    void *block = from->at;
    from->at += BLOCK_BYTES;
    from->left -= BLOCK_BYTES;
    return block;
}

__attribute__((noipa)) void zone_free(zone *to, void *block) {
    *(void **)block = to->kept;
    to->kept = block;
}

static volatile unsigned long work;

int main(void) {
    zone own = {NULL, 0, NULL};
    for (;;) {
        void *block = zone_alloc(&own, 100);
        if (block == NULL) return 1;
        for (int step = 0; step < 100000; step++) work += (unsigned long)step;
        zone_free(&own, block);
    }
}
