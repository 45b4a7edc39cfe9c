/* churn: two hundred threads that replace old blocks by new ones until the input ends. It answers every
 * line with the number of its rounds so far, which shows that it lives and works. */
#include "truth.h"
#include <pthread.h>

#define THREADS 200
#define BLOCKS 100

static volatile long rounds;
static void *blocks[THREADS][BLOCKS];

FRAME static void *renew(void *old, unsigned state) {
    free(old);
    void *at = malloc(state % 500 + 1);
    KEEP(at);
    return at;
}

FRAME static void *member(void *argument) {
    void **mine = blocks[(uintptr_t)argument];
    unsigned state = (unsigned)(uintptr_t)argument + 1;
    for (;;) {
        for (int at = 0; at < 5; at++) {
            state = state * 1664525u + 1013904223u;
            void **place = &mine[(state >> 16) % BLOCKS];
            *place = renew(*place, state >> 8);
        }
        __atomic_fetch_add(&rounds, 1, __ATOMIC_RELAXED);
        usleep(20000);
    }
    return NULL;
}

int main(void) {
    static pthread_t threads[THREADS];
    for (int thread = 0; thread < THREADS; thread++)
        for (int at = 0; at < BLOCKS; at++) blocks[thread][at] = malloc(200);
    for (uintptr_t at = 0; at < THREADS; at++)
        if (pthread_create(&threads[at], NULL, member, (void *)at) != 0) _exit(5);
    say("waiting\n");
    while (read_line()) say("%ld\n", __atomic_load_n(&rounds, __ATOMIC_RELAXED));
    return 0;
}
