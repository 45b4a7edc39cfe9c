// stopwatch OUT GROUP GATE COMMAND ARGS...: writes into OUT how many seconds COMMAND took.
//
// GROUP is the cgroup.procs of the control group in which it shall run, or -. GATE is a named pipe at which it waits until
// somebody writes to it, or -.
//
// This process becomes COMMAND, which so keeps the pid that a tracer has been given. The clock is read by a
// child which waits until the last descriptor of a pipe is closed, which is when COMMAND and the processes that
// it started have ended. Neither half allocates.

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int count, char **words) {
    int alive[2];
    if (count < 5) return dprintf(2, "stopwatch: wanted OUT GROUP GATE COMMAND ARGS...\n"), 2;
    int out = open(words[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (out < 0 || pipe(alive)) return perror(words[1]), 1;
    if (strcmp(words[2], "-")) {
        int group = open(words[2], O_WRONLY | O_CLOEXEC);
        if (group < 0 || write(group, "0", 1) != 1) return perror(words[2]), 1;
    }
    if (strcmp(words[3], "-")) {
        char byte;
        int gate = open(words[3], O_RDONLY | O_CLOEXEC);
        if (gate < 0 || read(gate, &byte, 1) != 1) return perror(words[3]), 1;
    }
    double start = now();
    switch (fork()) {
    case -1:
        return perror("fork"), 1;
    case 0: {
        // Not to keep a tracer waiting that reads the output of COMMAND to its end.
        for (int fd = 0; fd < 3; fd++) close(fd);
        close(alive[1]);
        char byte, text[32];
        while (read(alive[0], &byte, 1) > 0) continue;
        int length = snprintf(text, sizeof text, "%.6f\n", now() - start);
        _exit(write(out, text, (size_t)length) == length ? 0 : 1);
    }
    }
    close(alive[0]);
    execvp(words[4], words + 4);
    perror(words[4]);
    return 127;
}
