/* sampled: forty sites whose blocks are from 16 bytes to four megabytes, and which hold from a few kilobytes to a hundred
 * megabytes: some only grow, some hold a number of blocks and replace them at random, some resize what they have. Two
 * threads take turns at all of them, each site's books being kept under a lock. */
#include "truth.h"
#include <pthread.h>

#define ROUNDS 100
#define MOST 4096

/* Name, smallest and largest block, blocks of a round, blocks that are held at most (0: all), how they are asked for. */
#define SITES(X) \
    X(s00, 16, 16, 400, 0, M) X(s01, 16, 16, 20, 0, M) X(s02, 16, 64, 300, 1000, M) X(s03, 24, 24, 4, 0, M) \
    X(s04, 32, 32, 300, 4000, M) X(s05, 40, 200, 100, 0, M) X(s06, 48, 48, 500, 100, M) X(s07, 64, 64, 200, 0, M) \
    X(s08, 100, 100, 10, 0, M) X(s09, 128, 4096, 30, 0, M) X(s10, 200, 200, 100, 500, M) X(s11, 256, 256, 60, 0, M) \
    X(s12, 500, 1500, 40, 0, M) X(s13, 512, 512, 1, 0, M) X(s14, 1000, 1000, 50, 0, M) X(s15, 1024, 1024, 80, 200, M) \
    X(s16, 2000, 2000, 5, 0, M) X(s17, 3000, 9000, 20, 0, M) X(s18, 4096, 4096, 30, 64, M) X(s19, 4096, 4096, 2, 0, M) \
    X(s20, 8000, 8000, 10, 0, M) X(s21, 10000, 30000, 4, 0, M) X(s22, 16384, 16384, 3, 0, M) \
    X(s23, 20000, 20000, 10, 20, M) X(s24, 32768, 32768, 1, 0, M) X(s25, 50000, 70000, 2, 0, M) \
    X(s26, 65536, 65536, 5, 10, M) X(s27, 100000, 100000, 1, 0, M) X(s28, 120000, 300000, 1, 30, M) \
    X(s29, 262144, 262144, 1, 0, M) X(s30, 1000000, 1000000, 1, 20, M) X(s31, 4000000, 4000000, 1, 5, M) \
    X(s32, 16, 100000, 10, 100, M) X(s33, 16, 500, 50, 0, C) X(s34, 5000, 5000, 5, 0, C) X(s35, 100, 20000, 20, 200, R) \
    X(s36, 16, 300, 100, 2000, R) X(s37, 40000, 400000, 3, 20, R) X(s38, 0, 3, 100, 0, M) X(s39, 700, 700, 3, 50, C)

#define M(old, bytes) (free(old), malloc(bytes))
#define C(old, bytes) (free(old), calloc(1, bytes))
#define R(old, bytes) realloc(old, bytes)
#define VIA_M "malloc"
#define VIA_C "calloc"
#define VIA_R "realloc"

typedef struct held {
    void *block;
    long bytes;
} held;

typedef struct kind {
    void *(*take)(void *old, long bytes);
    long least, most, times, limit;
    site *books;
    held held[MOST];
    long count;
} kind;

#define FUNCTION(name, least, most, times, limit, how) \
    FRAME static void *name(void *old, long bytes) { \
        void *at = how(old, bytes); \
        KEEP(at); \
        return at; \
    }
SITES(FUNCTION)

#define KIND(name, least, most, times, limit, how) {name, least, most, times, limit, NULL, {{NULL, 0}}, 0},
static kind kinds[] = {SITES(KIND)};
#define COUNT (int)(sizeof kinds / sizeof *kinds)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static unsigned next(unsigned long *state) {
    *state = *state * 6364136223846793005ul + 1442695040888963407ul;
    return (unsigned)(*state >> 33);
}

/* One block more, in place of one at random if there are enough. */
static void one(kind *it, unsigned long *state) {
    long bytes = it->least + (long)(next(state) % (unsigned long)(it->most - it->least + 1));
    held none = {NULL, 0}, *at = &none;
    if (it->limit) at = it->count < it->limit ? &it->held[it->count++] : &it->held[next(state) % it->limit];
    if (at->block) gave(it->books, at->bytes);
    at->block = it->take(at->block, bytes);
    at->bytes = bytes;
    took(it->books, bytes);
}

static void *work(void *argument) {
    unsigned long state = (unsigned long)(uintptr_t)argument;
    for (int round = 0; round < ROUNDS; round++)
        for (int which = 0; which < COUNT; which++) {
            pthread_mutex_lock(&lock);
            for (long time = 0; time < kinds[which].times; time++) one(&kinds[which], &state);
            pthread_mutex_unlock(&lock);
        }
    return NULL;
}

int main(void) {
    int at = 0;
#define BOOKS(name, least, most, times, limit, how) kinds[at++].books = heap(VIA_##how, #name);
    SITES(BOOKS)
    wait_for_go();
    pthread_t threads[2];
    for (uintptr_t it = 0; it < 2; it++)
        if (pthread_create(&threads[it], NULL, work, (void *)(it + 1)) != 0) _exit(5);
    for (int it = 0; it < 2; it++) pthread_join(threads[it], NULL);
    say("covers work\n");
    finish();
    return 0;
}
