// usage OUT COMMAND ARGS...: writes into OUT the seconds, the CPU seconds and the greatest RSS in KiB of COMMAND.
//
// A process is charged for the memory of the one it was forked from, which must therefore be small.

#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double seconds(struct timeval time) {
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

int main(int count, char **words) {
    if (count < 3) return fprintf(stderr, "usage: wanted OUT COMMAND ARGS...\n"), 2;
    double start = now();
    pid_t child = fork();
    if (child < 0) return perror("fork"), 1;
    if (child == 0) {
        execvp(words[2], words + 2);
        perror(words[2]);
        _exit(127);
    }
    int status;
    struct rusage used;
    if (wait4(child, &status, 0, &used) < 0) return perror("wait4"), 1;
    double wall_s = now() - start;
    FILE *out = fopen(words[1], "w");
    if (!out) return perror(words[1]), 1;
    fprintf(out, "%.6f %.6f %ld\n", wall_s, seconds(used.ru_utime) + seconds(used.ru_stime), used.ru_maxrss);
    if (fclose(out)) return perror(words[1]), 1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
