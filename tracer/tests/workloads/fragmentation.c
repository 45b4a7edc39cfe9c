/* Fragments the heap and leaks next to nothing. Each line of input is a round: large buffers are filled, and then each is
 * shrunk to the few bytes that were of use, which stay where they are. The next round's buffers are larger than the
 * holes that this one leaves, so the heap grows by nearly all of them.
 *
 * After each round it tells its books, and what the allocator says of itself:
 *
 *     books live BYTES blocks COUNT arena BYTES in_use BYTES free BYTES mapped BYTES rss BYTES
 */
#include <malloc.h>

#include "truth.h"

enum {
    ROUND_BYTES = 2 << 20,
    FIRST_BUFFER_BYTES = 8 << 10,
    STEP_BYTES = 1 << 10,
    /* Larger ones would be mapped by themselves (mallopt(3), M_MMAP_THRESHOLD). */
    LAST_BUFFER_BYTES = 120 << 10,
    KEPT_BYTES = 24,
};

static long live_bytes, live_blocks;

FRAME char *fill(long bytes) {
    char *made = malloc((size_t)bytes);
    if (!made) _exit(5);
    /* Only what was written to is resident. */
    memset(made, 1, (size_t)bytes);
    KEEP(made);
    return made;
}

/* What stays. */
FRAME void *shrink(char *buffer) {
    void *kept = realloc(buffer, KEPT_BYTES);
    KEEP(kept);
    live_bytes += KEPT_BYTES;
    live_blocks++;
    return kept;
}

FRAME void one_round(long buffer_bytes) {
    static char *buffers[ROUND_BYTES / FIRST_BUFFER_BYTES];
    static void *volatile list;
    int count = (int)(ROUND_BYTES / buffer_bytes);
    for (int at = 0; at < count; at++) buffers[at] = fill(buffer_bytes);
    for (int at = 0; at < count; at++) {
        void **kept = shrink(buffers[at]);
        /* Nothing is lost: each knows the one before. */
        *kept = list;
        list = kept;
    }
}

static long rss_bytes(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1) _exit(6);
    fclose(file);
    return pages * PAGE;
}

static void tell_books(void) {
    struct mallinfo2 info = mallinfo2();
    say("books live %ld blocks %ld arena %zu in_use %zu free %zu mapped %zu rss %ld\n", live_bytes, live_blocks, info.arena,
        info.uordblks, info.fordblks, info.hblkhd, rss_bytes());
}

int main(void) {
    long buffer_bytes = FIRST_BUFFER_BYTES;
    one_round(buffer_bytes);
    tell_books();
    while (read_line() && buffer_bytes < LAST_BUFFER_BYTES) {
        buffer_bytes += STEP_BYTES;
        one_round(buffer_bytes);
        tell_books();
    }
    say("done\n");
    while (read_line()) {
    }
}
