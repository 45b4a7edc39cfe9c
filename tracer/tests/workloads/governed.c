// Allocates as fast as it can, or hardly at all, as it is told line by line: "hot", "calm", or "keep" for blocks that stay.
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEPT_BLOCKS = 1000, KEPT_BYTES = 777 };

static atomic_int is_hot;
static void *volatile kept[KEPT_BLOCKS];

__attribute__((noinline)) static void pairs(void) {
    for (int at = 0; at < 1000; at++) {
        void *volatile block = malloc(100);
        free(block);
    }
}

__attribute__((noinline)) static void keep(void) {
    for (int at = 0; at < KEPT_BLOCKS; at++) kept[at] = malloc(KEPT_BYTES);
}

static void *work(void *unused) {
    (void)unused;
    for (;;) {
        if (is_hot) pairs();
        else usleep(10000);
    }
}

int main(void) {
    char line[64];
    pthread_t worker;
    setvbuf(stdout, NULL, _IOLBF, 0);
    pthread_create(&worker, NULL, work, NULL);
    puts("ready");
    while (fgets(line, sizeof line, stdin)) {
        if (!strcmp(line, "hot\n")) is_hot = 1;
        if (!strcmp(line, "calm\n")) is_hot = 0;
        if (!strcmp(line, "keep\n")) keep();
        printf("did %s", line);
    }
    return 0;
}
