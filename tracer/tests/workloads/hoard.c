/* hoard: for each line "COUNT" takes so many blocks of 32 bytes more, and for each line "-COUNT" frees so many of the last
 * that it took. */
#include "truth.h"

static void **kept;
static long kept_count;

FRAME static void take(long count) {
    kept = realloc(kept, (size_t)(kept_count + count) * sizeof *kept);
    for (long n = 0; n < count; n++) {
        kept[kept_count] = malloc(32);
        KEEP(kept[kept_count++]);
    }
}

FRAME static void drop(long count) {
    while (count-- > 0) free(kept[--kept_count]);
}

int main(void) {
    char line[64];
    say("waiting\n");
    while (fgets(line, sizeof line, stdin)) {
        long count = atol(line);
        if (count > 0) take(count);
        else drop(-count);
        say("done\n");
    }
    return 0;
}
