// Runs malloc+free pairs below a call stack of a wanted depth and says what one pair cost.
//
// Each line on standard input is "FRAMES PAIRS"; each answer is "CPU_NS WALL_NS", per pair. FRAMES counts
// every caller of malloc up to and including _start, so 4 is the least: main and three frames of libc's start.
// The process stays between commands, so that tracers can come and go.
//
// "hold COUNT" makes this many blocks live, instead of those that were; while there are some, a pair frees one of them, any, and
// allocates one in its place, so that neither the program nor a tracer finds it in a cache.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { OUTER_FRAMES = 4, SIZE = 48 };

static void **held;
static size_t held_count;

// Nothing of our own is allocated by malloc.
static int hold(size_t count) {
    for (size_t at = 0; at < held_count; at++) free(held[at]);
    if (held) munmap(held, held_count * sizeof *held);
    held = NULL, held_count = 0;
    if (count == 0) return 1;
    void **room = mmap(NULL, count * sizeof *room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) return 0;
    for (size_t at = 0; at < count; at++)
        if (!(room[at] = malloc(SIZE))) return 0;
    held = room, held_count = count;
    return 1;
}

static __attribute__((noinline)) void replacements(long count) {
    unsigned long long random = 88172645463325252ull;
    for (long i = 0; i < count; i++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        void **place = &held[random % held_count];
        free(*place);
        *place = malloc(SIZE);
    }
}

static inline __attribute__((always_inline)) void pairs(long count) {
    if (held_count) {
        replacements(count);
        return;
    }
    for (long i = 0; i < count; i++) {
        // The size and the address go through the assembler, so that the pair cannot be optimized away.
        size_t size = SIZE;
        __asm__ volatile("" : "+r"(size));
        void *block = malloc(size);
        __asm__ volatile("" : "+r"(block));
        free(block);
    }
}

static void even(int frames, long count);

// Frames of different sizes, because real ones are.
static __attribute__((noinline)) void odd(int frames, long count) {
    char room[72];
    __asm__ volatile("" : : "r"(room) : "memory");
    if (frames > 1) even(frames - 1, count);
    else pairs(count);
    __asm__ volatile("" : : "r"(room) : "memory"); // no tail call
}

static __attribute__((noinline)) void even(int frames, long count) {
    char room[24];
    __asm__ volatile("" : : "r"(room) : "memory");
    if (frames > 1) odd(frames - 1, count);
    else pairs(count);
    __asm__ volatile("" : : "r"(room) : "memory");
}

static double now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

int main(void) {
    char line[128];
    while (fgets(line, sizeof line, stdin)) {
        int frames;
        long count;
        if (!strcmp(line, "end\n")) return 0;
        if (sscanf(line, "hold %ld", &count) == 1) {
            double cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);
            if (!hold((size_t)count)) return perror("hold"), 1;
            cpu = now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
            printf("%.2f 0\n", count ? cpu / (double)count : 0.0);
            fflush(stdout);
            continue;
        }
        if (sscanf(line, "%d %ld", &frames, &count) != 2 || frames < OUTER_FRAMES || count < 1) {
            fprintf(stderr, "pair: wanted FRAMES PAIRS, got %s", line);
            return 2;
        }
        double wall = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);
        if (frames == OUTER_FRAMES) pairs(count);
        else odd(frames - OUTER_FRAMES, count);
        cpu = now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu, wall = now_ns(CLOCK_MONOTONIC) - wall;
        printf("%.2f %.2f\n", cpu / (double)count, wall / (double)count);
        fflush(stdout);
    }
    return 0;
}
