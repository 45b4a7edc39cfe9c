/* chains: allocations under 5, 20 and 50 frames of odd sizes: none at all, a few bytes, alloca, pages,
 * over-aligned locals (which the compiler addresses through a saved pointer), and many saved registers. */
#include "truth.h"
#include <alloca.h>

static site *leaf_site;

/* Leaves every third block. */
FRAME static long leaf(long n) {
    char *block = malloc((size_t)n);
    KEEP(block);
    block[0] = (char)n;
    took(leaf_site, n);
    if (n % 3 != 0) {
        free(block);
        gave(leaf_site, n);
    }
    return n;
}

#define BARE(name, below)                                                                                   \
    FRAME static long name(long n) { return below(n) + 1; }

#define ODD(name, below, bytes)                                                                             \
    FRAME static long name(long n) {                                                                        \
        volatile char pad[bytes];                                                                           \
        pad[(unsigned long)n % (bytes)] = (char)n;                                                          \
        return below(n) + pad[(unsigned long)n % (bytes)];                                                  \
    }

#define DYNAMIC(name, below)                                                                                \
    FRAME static long name(long n) {                                                                        \
        volatile char *pad = alloca((size_t)(n % 700 + 1));                                                 \
        pad[n % 700] = (char)n;                                                                             \
        return below(n) + pad[n % 700];                                                                     \
    }

#define ALIGNED(name, below)                                                                                \
    FRAME static long name(long n) {                                                                        \
        _Alignas(64) volatile char pad[64];                                                                 \
        volatile char *more = alloca((size_t)(n % 100 + 1));                                                \
        pad[n % 64] = (char)n;                                                                              \
        more[n % 100] = (char)n;                                                                            \
        return below(n) + pad[n % 64] + more[n % 100];                                                      \
    }

/* Uses every register that a function must save. */
#define SAVING(name, below)                                                                                 \
    FRAME static long name(long n) {                                                                        \
        long a = n * 3, b = n * 5, c = n * 7, d = n * 11, e = n * 13, f = n * 17;                           \
        __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));                        \
        long result = below(n);                                                                             \
        __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));                        \
        return result + a + b + c + d + e + f;                                                              \
    }

/* An argument on the stack, so that the frame's size changes around the call. */
FRAME static long spill(long a, long b, long c, long d, long e, long f, long g, long h, long (*next)(long)) {
    return next(a) + b + c + d + e + f + g + h;
}
#define SPILLING(name, below)                                                                               \
    FRAME static long name(long n) { return spill(n, 2, 3, 4, 5, 6, 7, 8, below) - 1; }

#define TEN(p, below)                                                                                       \
    BARE(p##0, below)                                                                                       \
    ODD(p##1, p##0, 13)                                                                                     \
    DYNAMIC(p##2, p##1)                                                                                     \
    SAVING(p##3, p##2)                                                                                      \
    ODD(p##4, p##3, 2011)                                                                                   \
    ALIGNED(p##5, p##4)                                                                                     \
    BARE(p##6, p##5)                                                                                        \
    ODD(p##7, p##6, 129)                                                                                    \
    SAVING(p##8, p##7)                                                                                      \
    ODD(p##9, p##8, 5003)

BARE(five_0, leaf)
ODD(five_1, five_0, 37)
DYNAMIC(five_2, five_1)
ALIGNED(five_3, five_2)
SAVING(five_4, five_3)

TEN(twenty_0, leaf)
TEN(twenty_1, twenty_09)

TEN(fifty_0, leaf)
TEN(fifty_1, fifty_09)
TEN(fifty_2, fifty_19)
TEN(fifty_3, fifty_29)
TEN(fifty_4, fifty_39)

SPILLING(spilling_0, leaf)
SPILLING(spilling_1, spilling_0)

static const char *frames(const char *prefix, int digits, int count) {
    static char text[2048];
    int at = snprintf(text, sizeof text, "leaf");
    for (int it = 0; it < count; it++)
        at += snprintf(text + at, sizeof text - (size_t)at, ";%s%0*d", prefix, digits, it);
    snprintf(text + at, sizeof text - (size_t)at, ";work;main");
    return text;
}

FRAME static void work(void) {
    volatile long sum = 0;
    leaf_site = heap("malloc", frames("five_", 1, 5));
    for (long n = 1; n <= 300; n++) sum += five_4(n);
    leaf_site = heap("malloc", frames("twenty_", 2, 20));
    for (long n = 1; n <= 300; n++) sum += twenty_19(n);
    leaf_site = heap("malloc", frames("fifty_", 2, 50));
    for (long n = 1; n <= 300; n++) sum += fifty_49(n);
    leaf_site = heap("malloc", "leaf;spill;spilling_0;spill;spilling_1;work;main");
    for (long n = 1; n <= 300; n++) sum += spilling_1(n);
}

int main(void) {
    wait_for_go();
    work();
    say("covers work\n");
    finish();
    return 0;
}
