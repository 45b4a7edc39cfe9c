/* Leaks through one function until it is killed. What it has leaked stands in the file that it is given, at any moment: it is
 * written before the memory is used, which is what ends it. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SESSION_BYTES 65000L

/* A function that is a real frame of its own. */
#define FRAME __attribute__((noipa, optimize("no-optimize-sibling-calls")))

FRAME static void **remember_session(void) { return malloc(SESSION_BYTES); }

/* Taken and given back all the time, and no leak. */
FRAME static void answer_request(void) {
    char *answer = malloc(3000);
    if (answer) memset(answer, 1, 3000);
    __asm__ volatile("" : "+r"(answer) : : "memory");
    free(answer);
}

int main(int count, char **arguments) {
    int books = count == 2 ? open(arguments[1], O_CREAT | O_TRUNC | O_WRONLY, 0644) : -1;
    if (books < 0) return 2;
    void **last = NULL;
    for (long leaked = 0;; ) {
        void **session = remember_session();
        if (!session) return 3;
        leaked += SESSION_BYTES;
        char line[32];
        int length = snprintf(line, sizeof line, "%ld\n", leaked);
        if (pwrite(books, line, (size_t)length, 0) != length) return 4;
        memset(session, 1, SESSION_BYTES);
        *session = last;
        last = session;
        answer_request();
        /* About 100 MB a second where the processor is emulated: some seconds of growth to be seen. */
        if (leaked % (32 * SESSION_BYTES) == 0) usleep(10000);
    }
}
