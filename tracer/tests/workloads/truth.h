/* truth.h: how a workload keeps its own books, and tells them.
 *
 * A workload writes `waiting`, reads a line, works, writes what it did, writes `done`, and ends with its
 * input. What it did is one line for each site that matters:
 *
 *     site KIND VIA LIVE_BYTES LIVE_BLOCKS ALLOCATED_BYTES ALLOCATED_BLOCKS FRAME;FRAME;...
 *
 * The frames are functions, innermost first, from the caller of the allocator on; they need not reach
 * `main`. In place of a figure or of VIA `*` means "whatever", VIA may be a choice (`malloc|realloc`), and as
 * a frame `*` is any one function and `**` any number of them. Further lines:
 *
 *     covers FUNCTION     every site with this function on its stack is covered by a line
 *     older COUNT         blocks from before `waiting` that were freed
 *     process PID child   the lines from here on are about a child
 *
 * Nothing here allocates. */
#ifndef TRUTH_H
#define TRUTH_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A function that is a real frame of its own: neither inlined, cloned nor merged, and its calls are calls.
 * `noipa` stands for noinline, noclone and whatever else could join two functions. */
#define FRAME __attribute__((noipa, optimize("no-optimize-sibling-calls")))

/* The compiler may not know where a pointer came from, or it removes pairs of malloc and free. */
#define KEEP(p) __asm__ volatile("" : "+r"(p) : : "memory")

#define PAGE 4096L
#define PAGES(n) (((long)(n) + PAGE - 1) / PAGE * PAGE)

typedef struct site {
    const char *kind;
    const char *via;
    char frames[2048];
    long live_bytes, live_blocks, allocated_bytes, allocated_blocks;
} site;

static site truth_sites[256];
static int truth_count;
static long truth_older;

static inline void say(const char *format, ...) {
    static char line[4096];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    for (int at = 0; at < length;) {
        ssize_t written = write(1, line + at, (size_t)(length - at));
        if (written <= 0) _exit(3);
        at += (int)written;
    }
}

/* A site of which the books are to be kept. */
static inline site *site_of(const char *kind, const char *via, const char *frames) {
    if (truth_count == (int)(sizeof truth_sites / sizeof *truth_sites)) _exit(4);
    site *made = &truth_sites[truth_count++];
    made->kind = kind;
    made->via = via;
    if (strlen(frames) >= sizeof made->frames) _exit(4);
    strcpy(made->frames, frames);
    return made;
}

static inline site *heap(const char *via, const char *frames) { return site_of("heap", via, frames); }

/* Threads keep the same books. */
static inline void took(site *at, long bytes) {
    __atomic_fetch_add(&at->live_bytes, bytes, __ATOMIC_RELAXED);
    __atomic_fetch_add(&at->live_blocks, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&at->allocated_bytes, bytes, __ATOMIC_RELAXED);
    __atomic_fetch_add(&at->allocated_blocks, 1, __ATOMIC_RELAXED);
}

static inline void gave(site *at, long bytes) {
    __atomic_fetch_sub(&at->live_bytes, bytes, __ATOMIC_RELAXED);
    __atomic_fetch_sub(&at->live_blocks, 1, __ATOMIC_RELAXED);
}

/* Reads up to the end of a line; 0 at the end of the input. */
static inline int read_line(void) {
    char byte;
    for (;;) {
        if (read(0, &byte, 1) != 1) return 0;
        if (byte == '\n') return 1;
    }
}

static inline void wait_for_go(void) {
    say("waiting\n");
    read_line();
}

static inline void tell_sites(void) {
    for (int at = 0; at < truth_count; at++) {
        site *it = &truth_sites[at];
        say("site %s %s %ld %ld %ld %ld %s\n", it->kind, it->via, it->live_bytes, it->live_blocks,
            it->allocated_bytes, it->allocated_blocks, it->frames);
    }
    if (truth_older) say("older %ld\n", truth_older);
}

static inline void finish(void) {
    tell_sites();
    say("done\n");
    while (read_line()) {
    }
}

#endif
