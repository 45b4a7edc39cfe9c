/* crowd: two hundred threads that allocate at the same time, and keep what they have when they end. */
#include "truth.h"
#include <pthread.h>

#define THREADS 200
#define ROUNDS 50

static site *s_gather, *s_scatter;
static pthread_barrier_t all_here;

FRAME static void *gather(long bytes) {
    void *at = malloc((size_t)bytes);
    KEEP(at);
    if (at == NULL) _exit(5);
    took(s_gather, bytes);
    return at;
}

FRAME static void scatter(long bytes) {
    void *at = malloc((size_t)bytes);
    KEEP(at);
    took(s_scatter, bytes);
    gave(s_scatter, bytes);
    free(at);
}

FRAME static void *member(void *argument) {
    long number = (long)(uintptr_t)argument;
    pthread_barrier_wait(&all_here);
    for (long round = 1; round <= ROUNDS; round++) {
        void *kept = gather(number + round);
        memset(kept, 1, (size_t)(number + round));
        scatter(round * 7);
    }
    pthread_barrier_wait(&all_here);
    return NULL;
}

FRAME static void work(void) {
    static pthread_t threads[THREADS];
    s_gather = heap("malloc", "gather;member");
    s_scatter = heap("malloc", "scatter;member");
    pthread_barrier_init(&all_here, NULL, THREADS);
    for (uintptr_t at = 0; at < THREADS; at++)
        if (pthread_create(&threads[at], NULL, member, (void *)at) != 0) _exit(5);
    for (int at = 0; at < THREADS; at++) pthread_join(threads[at], NULL);
}

int main(void) {
    wait_for_go();
    work();
    say("covers member\n");
    finish();
    return 0;
}
