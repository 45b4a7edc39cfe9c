/* blocks: tells of each call, with its address, and of each block that is left. Does its work once more for
 * every line it is told. */
#include "truth.h"
#include <sys/mman.h>

static struct block {
    void *address;
    long bytes;
} kept[4096];
static int kept_count;
static int round_number;

/* Sizes differ from round to round, so that a block's size says when it was born. */
FRAME static void *keep(long bytes) {
    void *address = malloc((size_t)bytes);
    KEEP(address);
    say("alloc %lx %ld\n", (long)address, bytes);
    kept[kept_count++] = (struct block){address, bytes};
    return address;
}

FRAME static void *stretch(void *address, long old_bytes, long bytes) {
    long old_address = (long)address;
    void *moved = realloc(address, (size_t)bytes);
    KEEP(moved);
    say("free %lx %ld\n", old_address, old_bytes);
    say("alloc %lx %ld\n", (long)moved, bytes);
    return moved;
}

FRAME static void drop(int at) {
    say("free %lx %ld\n", (long)kept[at].address, kept[at].bytes);
    free(kept[at].address);
    kept[at] = kept[--kept_count];
}

FRAME static void *map(long bytes) {
    void *address = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("alloc %lx %ld\n", (long)address, bytes);
    kept[kept_count++] = (struct block){address, bytes};
    return address;
}

FRAME static void work(void) {
    int first = kept_count;
    long base = 1000L * ++round_number;
    for (int n = 0; n < 90; n++) keep(base + n);
    for (int n = 0; n < 30; n++) {
        struct block *it = &kept[first + n];
        it->address = stretch(it->address, it->bytes, it->bytes + 500);
        it->bytes += 500;
    }
    for (int n = 0; n < 30; n++) drop(first + 2 * n);
    map(PAGE * 25);
}

int main(void) {
    say("waiting\n");
    while (read_line() || round_number == 0) {
        work();
        for (int at = 0; at < kept_count; at++) say("left %lx %ld\n", (long)kept[at].address, kept[at].bytes);
        say("done\n");
    }
    return 0;
}
