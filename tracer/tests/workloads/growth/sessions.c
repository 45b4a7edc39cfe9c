// Sessions that are begun and ended, or, with the argument "leak", never ended: 256 KiB in a tenth of a second.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((noinline)) static char *begin_session(void) {
    char *session = malloc(1024);
    if (session) memset(session, 1, 1024);
    return session;
}

__attribute__((noinline)) static void leak_session(void) {
    for (int i = 0; i < 256; i++)
        if (!begin_session()) abort();
}

__attribute__((noinline)) static void serve_session(void) {
    for (int i = 0; i < 256; i++) free(begin_session());
}

int main(int count, char **arguments) {
    int leaks = count > 1 && !strcmp(arguments[1], "leak");
    serve_session();
    puts("ready");
    fflush(stdout);
    for (;;) {
        if (leaks) leak_session();
        else serve_session();
        usleep(100000);
    }
}
