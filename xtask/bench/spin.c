// Threads that do nothing but malloc and free, and count it.
//
// Each line on standard input is "THREADS SECONDS"; the answer is "PAIRS CPU_NS": the malloc+free pairs done by all
// threads together, and the CPU time of one. The stack of each of them is pair_loop, step, worker, thread_main and the two frames with
// which every thread starts.

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST_THREADS = 64, BATCH = 64 };

static const size_t SIZES[] = {24, 48, 136, 1000};
static atomic_int stop;

__attribute__((noinline)) long pair_loop(long done) {
    char room[40];
    __asm__ volatile("" : : "r"(room) : "memory");
    for (long i = 0; i < BATCH; i++) {
        void *block = malloc(SIZES[(done + i) % (sizeof SIZES / sizeof *SIZES)]);
        __asm__ volatile("" : "+r"(block));
        free(block);
    }
    return done + BATCH;
}

__attribute__((noinline)) long step(long done) {
    done = pair_loop(done);
    __asm__ volatile("" : "+r"(done)); // no tail call
    return done;
}

__attribute__((noinline)) long worker(void) {
    long done = 0;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) done = step(done);
    return done;
}

static void *thread_main(void *result) {
    *(long *)result = worker();
    return NULL;
}

static double cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

int main(void) {
    int threads;
    double seconds;
    while (scanf("%d %lf", &threads, &seconds) == 2) {
        pthread_t thread[MOST_THREADS];
        long done[MOST_THREADS] = {0}, total = 0;
        if (threads < 1 || threads > MOST_THREADS) return 2;
        atomic_store(&stop, 0);
        double cpu = cpu_ns();
        for (int i = 0; i < threads; i++)
            if (pthread_create(&thread[i], NULL, thread_main, &done[i])) return 1;
        struct timespec left = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
        while (nanosleep(&left, &left)) continue;
        atomic_store(&stop, 1);
        for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL), total += done[i];
        printf("%ld %.1f\n", total, (cpu_ns() - cpu) / (double)total);
        fflush(stdout);
    }
    return 0;
}
