/* mappings: anonymous mappings cut into pieces, resized, moved, laid over each other; and what does not
 * count: files, calls that fail. A mapping is a block as long as any byte of it is left. */
#define _GNU_SOURCE
#include "truth.h"
#include <fcntl.h>
#include <sys/mman.h>

static site *s_pieces, *s_holes, *s_grown, *s_resized, *s_shrunk, *s_moved, *s_under, *s_over, *s_odd, *s_reserved,
    *s_break;

FRAME static char *map_here(site *of, long bytes, char *at, int flags) {
    char *got = mmap(at, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    KEEP(got);
    if (got == MAP_FAILED) _exit(5);
    took(of, PAGES(bytes));
    return got;
}

/* Some bytes of a mapping are gone; `last` says whether that was the rest. */
static void cut(site *of, char *at, long bytes, int last) {
    if (munmap(at, (size_t)bytes) != 0) _exit(5);
    of->live_bytes -= PAGES(bytes);
    of->live_blocks -= last;
}

/* Front, back, middle, and then one of the two rests. */
FRAME static void map_pieces(void) {
    for (int round = 0; round < 10; round++) {
        char *at = map_here(s_pieces, 16 * PAGE, NULL, 0);
        cut(s_pieces, at, 2 * PAGE, 0);
        cut(s_pieces, at + 15 * PAGE, PAGE, 0);
        cut(s_pieces, at + 6 * PAGE, 3 * PAGE, 0);
        if (round % 2) cut(s_pieces, at + 2 * PAGE, 4 * PAGE, 0);
        if (round % 4 == 3) cut(s_pieces, at + 9 * PAGE, 6 * PAGE, 1);
    }
}

/* Two neighbours, and one munmap over both and the hole that an earlier one left. */
FRAME static void map_holes(void) {
    for (int round = 0; round < 6; round++) {
        char *at = map_here(s_holes, 12 * PAGE, NULL, 0);
        cut(s_holes, at + 4 * PAGE, 2 * PAGE, 0);
        if (munmap(at + 3 * PAGE, 4 * PAGE) != 0) _exit(5);
        s_holes->live_bytes -= 2 * PAGE;
        /* Refused: not at a page. */
        if (munmap(at + 1, PAGE) == 0) _exit(6);
        if (round == 0) {
            if (munmap(at, 12 * PAGE) != 0) _exit(5);
            s_holes->live_bytes -= 8 * PAGE;
            s_holes->live_blocks -= 1;
        }
    }
}

FRAME static char *resize(site *of, char *at, long old_bytes, long bytes, int flags, char *where) {
    char *got = mremap(at, (size_t)old_bytes, (size_t)bytes, flags, where);
    KEEP(got);
    if (got == MAP_FAILED) _exit(5);
    took(of, PAGES(bytes));
    return got;
}

FRAME static void map_grown(void) {
    for (int round = 0; round < 5; round++) {
        char *at = map_here(s_grown, 4 * PAGE, NULL, 0);
        gave(s_grown, 4 * PAGE);
        at = resize(s_resized, at, 4 * PAGE, (100 + round) * PAGE, MREMAP_MAYMOVE, NULL);
        gave(s_resized, (100 + round) * PAGE);
        at = resize(s_resized, at, (100 + round) * PAGE, 30 * PAGE, 0, NULL);
        if (round == 2) cut(s_resized, at, 30 * PAGE, 1);
    }
}

/* To a place of our choice, where another mapping lies: that one is gone. */
FRAME static void map_moved(void) {
    for (int round = 0; round < 5; round++) {
        char *under = map_here(s_under, 20 * PAGE, NULL, 0);
        char *at = map_here(s_moved, 8 * PAGE, NULL, 0);
        gave(s_moved, 8 * PAGE);
        resize(s_shrunk, at, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, under + 6 * PAGE);
        s_under->live_bytes -= 8 * PAGE;
    }
}

FRAME static void map_over(void) {
    for (int round = 0; round < 4; round++) {
        char *at = map_here(s_over, 10 * PAGE, NULL, 0);
        map_here(s_over, 4 * PAGE, at + 2 * PAGE, MAP_FIXED);
        s_over->live_bytes -= 4 * PAGE;
        /* All of the later mapping, by a file. */
        int file = open("/proc/self/exe", O_RDONLY);
        if (file < 0) _exit(5);
        if (mmap(at + 2 * PAGE, 4 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, 0) == MAP_FAILED) _exit(5);
        s_over->live_bytes -= 4 * PAGE;
        s_over->live_blocks -= 1;
        /* A file is no memory of ours. */
        void *text = mmap(NULL, 3 * PAGE, PROT_READ, MAP_PRIVATE, file, 0);
        if (text == MAP_FAILED) _exit(5);
        if (round % 2) munmap(text, 3 * PAGE);
        close(file);
    }
}

/* Lengths that are no whole pages, memory that may not be touched, and calls that fail. */
FRAME static void map_odd(void) {
    static volatile long too_much = (1L << 47) + 1;
    for (int round = 0; round < 7; round++) {
        map_here(s_odd, round * 1000 + 1, NULL, 0);
        char *at = mmap(NULL, 5 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED) _exit(5);
        took(s_reserved, 5 * PAGE);
        void *failed = mmap(NULL, (size_t)too_much, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (failed != MAP_FAILED) _exit(6);
        failed = mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (failed != MAP_FAILED) _exit(6);
        if (mremap(at, 5 * PAGE, (size_t)too_much, MREMAP_MAYMOVE) != MAP_FAILED) _exit(6);
    }
}

FRAME static void grow_break(void) {
    if (sbrk(3 * PAGE) == (void *)-1) _exit(5);
    took(s_break, 3 * PAGE);
    if (sbrk(5 * PAGE) == (void *)-1) _exit(5);
    took(s_break, 5 * PAGE);
    if (sbrk(-2 * PAGE) == (void *)-1) _exit(5);
    s_break->live_bytes -= 2 * PAGE;
}

FRAME static void work(void) {
    s_pieces = site_of("mmap", "mmap", "map_here;map_pieces;work;main");
    s_holes = site_of("mmap", "mmap", "map_here;map_holes;work;main");
    s_grown = site_of("mmap", "mmap", "map_here;map_grown;work;main");
    s_resized = site_of("mmap", "mremap", "resize;map_grown;work;main");
    s_moved = site_of("mmap", "mmap", "map_here;map_moved;work;main");
    s_under = s_moved;
    s_shrunk = site_of("mmap", "mremap", "resize;map_moved;work;main");
    s_over = site_of("mmap", "mmap", "map_here;map_over;work;main");
    s_odd = site_of("mmap", "mmap", "map_here;map_odd;work;main");
    s_reserved = site_of("mmap", "mmap", "map_odd;work;main");
    map_pieces();
    map_holes();
    map_grown();
    map_moved();
    map_over();
    map_odd();
}

/* The heap segment, without the allocator. sbrk and brk are one call to the caller, as far as he knows. */
FRAME static void work_at_break(void) {
    s_break = site_of("mmap", "brk", "grow_break;work_at_break;main");
    grow_break();
}

int main(void) {
    wait_for_go();
    work();
    work_at_break();
    say("covers work\ncovers work_at_break\n");
    finish();
    return 0;
}
