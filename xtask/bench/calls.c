/* What the kernel takes for the smallest things: prints the CPU time in nanoseconds of a system call, of the first touch of a
 * page (mapping and unmapping included), and of a child that ends at once. calls COUNT: system calls; of pages a hundredth, of
 * children a ten-thousandth. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 4096 };

static double now_ns(void) {
    struct timespec own;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own);
    return (double)own.tv_sec * 1e9 + (double)own.tv_nsec;
}

int main(int count, char **arguments) {
    if (count != 2) return 2;
    long calls = atol(arguments[1]), rounds = calls / 100 / PAGES + 1, children = calls / 10000 + 1;

    double start = now_ns();
    for (long at = 0; at < calls; at++) syscall(SYS_getppid);
    double of_call = (now_ns() - start) / (double)calls;

    start = now_ns();
    for (long at = 0; at < rounds; at++) {
        char *pages = mmap(NULL, PAGE * PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (pages == MAP_FAILED) return 1;
        madvise(pages, PAGE * PAGES, MADV_NOHUGEPAGE);
        for (long page = 0; page < PAGES; page++) pages[page * PAGE] = 1;
        munmap(pages, PAGE * PAGES);
    }
    double of_page = (now_ns() - start) / (double)(rounds * PAGES);

    start = now_ns();
    for (long at = 0; at < children; at++) {
        pid_t child = vfork();
        if (child < 0) return 1;
        if (child == 0) _exit(0);
        waitpid(child, NULL, 0);
    }
    double of_child = (now_ns() - start) / (double)children;

    printf("%f %f %f\n", of_call, of_page, of_child);
    return 0;
}
