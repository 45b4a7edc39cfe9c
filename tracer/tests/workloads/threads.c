/* threads: six threads that free, and resize, each other's blocks through a common board, as fast as they
 * can, so that addresses change hands at once. */
#include "truth.h"
#include <pthread.h>

#define THREADS 6
#define ROUNDS 12000
#define PLACES 64

typedef struct block {
    void *at;
    long bytes;
    site *of;
} block;

static block board[PLACES];
static pthread_mutex_t places[PLACES];
static site *s_produce[2], *s_resize;

/* Puts `mine` on the board, and takes what lay there: mostly another thread's. */
static block exchange(unsigned place, block mine) {
    pthread_mutex_lock(&places[place]);
    block theirs = board[place];
    board[place] = mine;
    pthread_mutex_unlock(&places[place]);
    return theirs;
}

static block made(site *of, void *at, long bytes) {
    KEEP(at);
    if (at == NULL) _exit(5);
    memset(at, 1, (size_t)bytes);
    took(of, bytes);
    return (block){at, bytes, of};
}

FRAME static block produce_even(long bytes) { return made(s_produce[0], malloc((size_t)bytes), bytes); }
FRAME static block produce_odd(long bytes) { return made(s_produce[1], calloc(1, (size_t)bytes), bytes); }

FRAME static block resize(block old, long bytes) {
    if (old.at == NULL) return old;
    gave(old.of, old.bytes);
    return made(s_resize, realloc(old.at, (size_t)bytes), bytes);
}

FRAME static void discard(block old) {
    if (old.at == NULL) return;
    gave(old.of, old.bytes);
    free(old.at);
}

FRAME static void *worker(void *argument) {
    unsigned state = (unsigned)(uintptr_t)argument * 2654435761u + 1;
    for (int round = 0; round < ROUNDS; round++) {
        state = state * 1664525u + 1013904223u;
        long bytes = 1 + (state >> 8) % 900;
        unsigned place = (state >> 20) % PLACES;
        block fresh = (uintptr_t)argument % 2 ? produce_odd(bytes) : produce_even(bytes);
        block theirs = exchange(place, fresh);
        if (state % 4 == 0) theirs = exchange((place + 1) % PLACES, resize(theirs, bytes * 2));
        discard(theirs);
    }
    return NULL;
}

FRAME static void work(void) {
    s_produce[0] = heap("malloc", "produce_even;worker");
    s_produce[1] = heap("calloc", "produce_odd;worker");
    s_resize = heap("realloc", "resize;worker");
    pthread_t threads[THREADS];
    for (uintptr_t at = 0; at < THREADS; at++)
        if (pthread_create(&threads[at], NULL, worker, (void *)at) != 0) _exit(5);
    for (int at = 0; at < THREADS; at++) pthread_join(threads[at], NULL);
}

int main(void) {
    for (int at = 0; at < PLACES; at++) pthread_mutex_init(&places[at], NULL);
    wait_for_go();
    work();
    say("covers worker\n");
    finish();
    return 0;
}
