/* A process with one shape of memory over time, for so many seconds: shape SHAPE SECONDS. Two of the shapes leak. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A function that is a real frame of its own. */
#define FRAME __attribute__((noipa, optimize("no-optimize-sibling-calls")))
#define KIB 1024L
#define MIB (1024 * KIB)

static char *filled(char *block, long bytes) {
    if (!block) _exit(3);
    memset(block, 1, (size_t)bytes);
    return block;
}

/* What is leaked is reachable, so that the compiler cannot know. */
static char **kept;
static void keep(char *block) {
    *(char ***)block = kept;
    kept = (char **)block;
}

FRAME static void leak_steadily(void) { keep(filled(malloc(4000), 4000)); }
FRAME static void leak_in_steps(void) {
    for (int at = 0; at < 1000; at++) keep(filled(malloc(4000), 4000));
}
FRAME static char *cache_page(void) { return filled(malloc(4000), 4000); }
FRAME static char *collect(void) { return filled(malloc(4000), 4000); }
FRAME static char *start_up(void) { return filled(malloc(4000), 4000); }

static void sleep_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* 25 rounds a second. What every program does goes on in all of them: taken, and given back soon. */
static void work(void) {
    static char *recent[64];
    static unsigned at;
    for (int times = 0; times < 8; times++) {
        char **place = &recent[at++ % 64];
        free(*place);
        *place = filled(malloc(500 + at % 7 * 100), 500);
    }
    sleep_ms(40);
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    char shape = arguments[1][0];
    long rounds = 25 * atol(arguments[2]);
    static char *cache[8 * MIB / 4000], *batch[6 * MIB / 4000];
    const long cache_pages = sizeof cache / sizeof *cache, batch_pages = sizeof batch / sizeof *batch;
    for (long round = 0; round < rounds; round++) {
        switch (shape) {
        case 'l': /* 98 KiB a second */
            leak_steadily();
            break;
        case 's': /* 4 MB each 20 seconds, 195 KiB a second */
            if (round % 500 == 250) leak_in_steps();
            break;
        case 'c': /* fills in 42 seconds, and replaces from then on */
            for (int times = 0; times < 2; times++) {
                char **page = &cache[(2 * round + times) % cache_pages];
                free(*page);
                *page = cache_page();
            }
            break;
        case 'b': /* batches: 6 MB in 30 seconds, all given back at the end of each */
            if (round % 750 == 0)
                for (long at = 0; at < batch_pages; at++) {
                    free(batch[at]);
                    batch[at] = NULL;
                }
            for (int times = 0; times < 2; times++) {
                long at = 2 * (round % 750) + times;
                if (at < batch_pages) batch[at] = collect();
            }
            break;
        case 'u': /* 32 MB as it starts */
            if (round == 0)
                for (int at = 0; at < 8000; at++) keep(start_up());
            break;
        case 'i': /* nothing */
            break;
        default:
            return 2;
        }
        work();
    }
    return 0;
}
