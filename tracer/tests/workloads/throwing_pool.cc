/* throwing_pool: an allocator of a class, which throws when it is exhausted: the exception must get through. */
#include "truth.h"
#include <new>
#include <stdexcept>

#define ROUNDS 200

namespace store {

class Pool {
    char slab[1 << 16];
    size_t used = 0;
    void *kept = nullptr;
    int holes = 0;

  public:
    FRAME void *get(size_t bytes);
    FRAME void put(void *block);
};

/* Every tenth call finds no room. */
void *Pool::get(size_t bytes) {
    if (++holes % 10 == 0) throw std::runtime_error("exhausted");
    if (kept) {
        void *block = kept;
        kept = *static_cast<void **>(block);
        return block;
    }
    if (used + 256 > sizeof slab || bytes > 256) throw std::bad_alloc();
    void *block = slab + used;
    used += 256;
    return block;
}

void Pool::put(void *block) {
    if (block == nullptr) throw std::invalid_argument("no block");
    *static_cast<void **>(block) = kept;
    kept = block;
}

} // namespace store

static store::Pool pool;

FRAME static void *by_get(site *s, long bytes) {
    void *block = pool.get(static_cast<size_t>(bytes));
    took(s, bytes);
    return block;
}

/* Deeper than the call that the exception has ended. */
FRAME static void *by_malloc(site *s, long bytes) {
    char room[256];
    KEEP(*room);
    void *block = malloc(static_cast<size_t>(bytes));
    KEEP(block);
    took(s, bytes);
    return block;
}

FRAME static void deeper(site *s, long round) {
    char room[1024];
    KEEP(*room);
    void *block = by_malloc(s, round);
    if (round % 2) {
        gave(s, round);
        free(block);
    }
}

int main() {
    site *get = heap("store::Pool::get", "by_get;main");
    site *plain = heap("malloc", "by_malloc;deeper;main");
    wait_for_go();
    long caught = 0;
    for (long round = 1; round <= ROUNDS; round++) {
        void *block = nullptr;
        long bytes = round % 200 + 1;
        try {
            block = by_get(get, bytes);
        } catch (const std::runtime_error &) {
            caught++;
        }
        deeper(plain, round);
        try {
            if (block && round % 2) gave(get, bytes);
            if (!block || round % 2) pool.put(block);
        } catch (const std::invalid_argument &) {
            caught++;
        }
    }
    if (caught != 2 * ROUNDS / 10) _exit(7);
    /* Not what `put` throws, which is no block of the pool and of no function here. */
    say("covers by_get\ncovers deeper\n");
    finish();
    return 0;
}
