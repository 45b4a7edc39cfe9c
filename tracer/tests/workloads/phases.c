/* phases: does what it is told, a line at a time, so that a test can place marks in between.
 *
 *     keep_early COUNT SIZE     keeps so many blocks; likewise keep_window, keep_late
 *     pass COUNT SIZE           allocates and frees
 *     drop_early COUNT          frees that many of those kept first; likewise drop_window
 *
 * Each line is answered by `done`. */
#include "truth.h"

#define MOST 100000

static void *early[MOST], *window[MOST], *late[MOST];
static long early_kept, window_kept, late_kept, early_dropped, window_dropped;

#define KEEPER(phase)                                        \
    FRAME static void keep_##phase(long count, long bytes) { \
        for (long at = 0; at < count; at++) {                \
            void *block = malloc((size_t)bytes);             \
            KEEP(block);                                     \
            if (block == NULL) _exit(5);                     \
            phase[phase##_kept++] = block;                   \
        }                                                    \
    }

KEEPER(early)
KEEPER(window)
KEEPER(late)

FRAME static void pass(long count, long bytes) {
    for (long at = 0; at < count; at++) {
        void *block = malloc((size_t)bytes);
        KEEP(block);
        free(block);
    }
}

int main(void) {
    static char line[256], verb[64];
    long count, bytes;
    say("waiting\n");
    while (fgets(line, sizeof line, stdin) != NULL) {
        bytes = 0;
        if (sscanf(line, "%63s %ld %ld", verb, &count, &bytes) < 2) _exit(5);
        if (strcmp(verb, "keep_early") == 0) keep_early(count, bytes);
        else if (strcmp(verb, "keep_window") == 0) keep_window(count, bytes);
        else if (strcmp(verb, "keep_late") == 0) keep_late(count, bytes);
        else if (strcmp(verb, "pass") == 0) pass(count, bytes);
        else if (strcmp(verb, "drop_early") == 0) while (count-- > 0) free(early[early_dropped++]);
        else if (strcmp(verb, "drop_window") == 0) while (count-- > 0) free(window[window_dropped++]);
        else _exit(5);
        say("done\n");
    }
    return late_kept < 0;
}
