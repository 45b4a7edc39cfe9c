// Serves requests and keeps what they need as long as it is told to: "leak" and "stop" on its input, whose end ends it. It
// tells how many bytes it has leaked, each time that a mebibyte more is.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS_PER_STEP = 10, STEP_US = 10000, TELL = 1 << 20 };

static long leaked_bytes;

__attribute__((noinline)) static void leak_request(void) {
    char *block = malloc(BLOCK);
    if (!block) abort();
    memset(block, 1, BLOCK);
    leaked_bytes += BLOCK;
    if (leaked_bytes % TELL == 0) {
        printf("%ld\n", leaked_bytes);
        fflush(stdout);
    }
}

__attribute__((noinline)) static void serve_request(void) {
    char *block = malloc(BLOCK);
    if (!block) abort();
    memset(block, 1, BLOCK);
    free(block);
}

int main(void) {
    int leaks = 0;
    char word[64];
    fcntl(0, F_SETFL, O_NONBLOCK);
    puts("ready");
    fflush(stdout);
    for (;;) {
        ssize_t length = read(0, word, sizeof word);
        if (length == 0) return 3;
        if (length > 0) leaks = word[0] == 'l';
        for (int i = 0; i < BLOCKS_PER_STEP; i++) {
            if (leaks) leak_request();
            else serve_request();
        }
        usleep(STEP_US);
    }
}
