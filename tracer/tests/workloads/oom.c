// Leaks through a function with a name until it is killed, and writes down how much in a file that outlives it.
// Its arguments: the file, and what to do: `leak` for ever; `crash` or `wait` for ever after eight MiB.
// oom_score_adj is for whoever starts it.

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK_BYTES 16000

// Read by the test, after our end.
static volatile uint64_t *books;

__attribute__((noinline)) static void leak_a_block(void) {
    char *block = malloc(BLOCK_BYTES);
    if (!block) abort();
    books[0] += BLOCK_BYTES;
    memset(block, 1, BLOCK_BYTES);
    __asm__ volatile("" : : "r"(block) : "memory");
}

// Comes and goes.
__attribute__((noinline)) static void use_and_free(void) {
    char *block = malloc(3000);
    if (!block) abort();
    memset(block, 2, 3000);
    __asm__ volatile("" : : "r"(block) : "memory");
    free(block);
}

__attribute__((noinline)) static void crash(void) {
    volatile int *nowhere = (volatile int *)8;
    __asm__ volatile("" : "+r"(nowhere));
    *nowhere = 1;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int file = open(argv[1], O_RDWR | O_CREAT, 0644);
    if (file < 0 || ftruncate(file, sizeof *books) != 0) return 2;
    books = mmap(NULL, sizeof *books, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (books == MAP_FAILED) return 2;
    char line[16];
    puts("waiting");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) return 0;
    // Some hundred megabytes a second would be killed before anybody looks.
    int is_endless = !strcmp(argv[2], "leak");
    for (int i = 0; is_endless || i < (8 << 20) / BLOCK_BYTES; i++) {
        leak_a_block();
        use_and_free();
        if (i % 16 == 0) usleep(2000);
    }
    puts("done");
    fflush(stdout);
    if (!strcmp(argv[2], "crash")) crash();
    for (;;) pause();
}
