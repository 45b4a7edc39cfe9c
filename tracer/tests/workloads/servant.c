/* servant: a server that does its work in this process, in children made before the work comes, or as another program.
 *
 *     servant                     works
 *     servant prefork COUNT       works, and so does each of its children, which live as long as it does
 *     servant become PROGRAM ARGUMENTS   works and becomes the program */
#include "truth.h"

#define BLOCKS 50

static void *blocks[BLOCKS];
static site *s_serve;

static long bytes_of(int at) { return at * 7 + 3; }

FRAME static void serve(int at) {
    blocks[at] = malloc((size_t)bytes_of(at));
    KEEP(blocks[at]);
    took(s_serve, bytes_of(at));
}

FRAME static void work(void) {
    s_serve = heap("malloc", "serve;work;main");
    for (int at = 0; at < BLOCKS; at++) serve(at);
    for (int at = 0; at < BLOCKS; at += 4) {
        gave(s_serve, bytes_of(at));
        free(blocks[at]);
    }
}

/* Each waits for its turn to speak, and then for the parent's end. */
static void prefork(int count) {
    for (int at = 0; at < count; at++) {
        int told[2], end[2];
        char byte;
        if (pipe(told) != 0 || pipe(end) != 0) _exit(5);
        pid_t child = fork();
        if (child < 0) _exit(5);
        if (child == 0) {
            close(end[1]);
            say("process %d child\n", (int)getpid());
            work();
            tell_sites();
            if (write(told[1], "!", 1) != 1) _exit(5);
            _exit(read(end[0], &byte, 1) == 0 ? 0 : 5);
        }
        if (read(told[0], &byte, 1) != 1) _exit(5);
        close(end[0]);
    }
}

int main(int count, char **arguments) {
    wait_for_go();
    if (count == 3 && strcmp(arguments[1], "prefork") == 0) prefork(atoi(arguments[2]));
    if (count >= 3 && strcmp(arguments[1], "become") == 0) {
        work();
        execv(arguments[2], arguments + 2);
        _exit(6);
    }
    say("process %d own\n", (int)getpid());
    work();
    finish();
    return 0;
}
