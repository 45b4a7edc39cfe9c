// One of a crowd: THREADS threads that allocate a little, once in a while, or sleep.
//
// The first word of the file CONTROL says how many milliseconds a thread sleeps between two turns; 0 lets them
// only look whether it has changed. Ends with whoever has started it.

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { BLOCKS = 4 };

static volatile uint32_t *period_ms;

static void sleep_ns(long ns) {
    struct timespec time = {ns / 1000000000, ns % 1000000000};
    nanosleep(&time, NULL);
}

// The blocks of one turn live until the next, so that each thread holds about the same all the time.
static void *live(void *seed) {
    void *blocks[BLOCKS] = {0};
    unsigned number = (unsigned)(uintptr_t)seed;
    for (;;) {
        uint32_t period = *period_ms;
        if (period == 0) {
            // Not all at once.
            sleep_ns((1000 + (long)(number * 2654435761u % 1000)) * 1000000);
            continue;
        }
        for (int at = 0; at < BLOCKS; at++) {
            free(blocks[at]);
            blocks[at] = malloc(16 + number++ % 7 * 100);
        }
        sleep_ns((long)period * 1000000);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s CONTROL THREADS\n", argv[0]);
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int control = open(argv[1], O_RDWR);
    period_ms = mmap(NULL, sizeof *period_ms, PROT_READ | PROT_WRITE, MAP_SHARED, control, 0);
    if (control < 0 || period_ms == MAP_FAILED) {
        perror(argv[1]);
        return 1;
    }
    uintptr_t seed = (uintptr_t)getpid() * 64;
    for (int at = 1; at < atoi(argv[2]); at++) {
        pthread_attr_t attributes;
        pthread_t thread;
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, 64 << 10);
        if (pthread_create(&thread, &attributes, live, (void *)(seed + at)) != 0) {
            perror("pthread_create");
            return 1;
        }
    }
    live((void *)seed);
}
