// operators: every form of C++'s operator new and operator delete, with a caller of its own each; and forms that fail,
// by an exception that passes frames which hold blocks, or by NULL. What follows a failure is allocated at the depth of
// the failed call, above it and below it.
#include "truth.h"
#include <new>

static const std::align_val_t aligned{64};
static volatile size_t huge = static_cast<size_t>(-1) / 4;

#define ROUNDS 60

static site *site_named(const char *caller) {
    char frames[200];
    // Where operator new only calls malloc, it is a frame of its own.
    snprintf(frames, sizeof frames, "**;%s;work;main", caller);
    return heap("*", frames);
}

static void *kept(site *of, void *at, long bytes) {
    KEEP(at);
    if (at == NULL) _exit(5);
    took(of, bytes);
    return at;
}

// Of a multiple of 64 bytes each: libstdc++ rounds up to the alignment before it asks for them.
#define FORM(name, allocate, deallocate)                                                                               \
    FRAME static void name(site *s, long n) {                                                                          \
        size_t bytes = static_cast<size_t>(n) * 64;                                                                    \
        void *at = kept(s, allocate, n * 64);                                                                          \
        if (n % 2) {                                                                                                   \
            gave(s, n * 64);                                                                                           \
            deallocate;                                                                                                \
        }                                                                                                              \
        KEEP(bytes);                                                                                                   \
    }

FORM(by_new, ::operator new(bytes), ::operator delete(at))
FORM(by_new_sized, ::operator new(bytes), ::operator delete(at, bytes))
FORM(by_new_nothrow, ::operator new(bytes, std::nothrow), ::operator delete(at, std::nothrow))
FORM(by_new_aligned, ::operator new(bytes, aligned), ::operator delete(at, aligned))
FORM(by_new_aligned_sized, ::operator new(bytes, aligned), ::operator delete(at, bytes, aligned))
FORM(by_new_aligned_nothrow, ::operator new(bytes, aligned, std::nothrow), ::operator delete(at, aligned, std::nothrow))
FORM(by_array, ::operator new[](bytes), ::operator delete[](at))
FORM(by_array_sized, ::operator new[](bytes), ::operator delete[](at, bytes))
FORM(by_array_nothrow, ::operator new[](bytes, std::nothrow), ::operator delete[](at, std::nothrow))
FORM(by_array_aligned, ::operator new[](bytes, aligned), ::operator delete[](at, aligned))
FORM(by_array_aligned_sized, ::operator new[](bytes, aligned), ::operator delete[](at, bytes, aligned))
FORM(by_array_aligned_nothrow, ::operator new[](bytes, aligned, std::nothrow), ::operator delete[](at, aligned, std::nothrow))

static site *s_held, *s_below, *s_level, *s_large;
static long thrown;

#ifndef NEVER_THROWS
FRAME static void *hold(long bytes) { return kept(s_held, ::operator new(static_cast<size_t>(bytes)), bytes); }

// Owns a block while an exception passes.
struct Holder {
    explicit Holder(long bytes) : at_(hold(bytes)), bytes_(bytes) {}
    ~Holder() {
        gave(s_held, bytes_);
        ::operator delete(at_);
    }
    Holder(const Holder &) = delete;
    Holder &operator=(const Holder &) = delete;
    void *at_;
    long bytes_;
};

FRAME static void fail(long depth, long round) {
    Holder holder(depth * 7 + 1);
    if (depth > 0) return fail(depth - 1, round);
    void *at = NULL;
    switch (round % 4) {
    case 0: at = ::operator new(huge); break;
    case 1: at = ::operator new[](huge); break;
    case 2: at = ::operator new(huge, aligned); break;
    case 3: at = ::operator new[](huge, aligned); break;
    }
    KEEP(at);
    _exit(6);
}
#endif

// On the way down from where the exception is caught, deeper than the failed call was.
FRAME static void *below(long depth, long bytes) {
    volatile char pad[100];
    pad[depth] = 1;
    void *at = depth > 0 ? below(depth - 1, bytes) : kept(s_below, malloc(static_cast<size_t>(bytes)), bytes);
    return pad[depth] ? at : NULL;
}

FRAME static void level(long bytes) {
    void *at = kept(s_level, ::operator new(static_cast<size_t>(bytes)), bytes);
    if (bytes % 2) {
        gave(s_level, bytes);
        ::operator delete(at);
    }
}

#ifndef NEVER_THROWS
static void handler() {
    throw std::bad_alloc();
}
#endif

FRAME static void by_throwing(long round) {
    // An allocator that was compiled as C cannot throw, and ends the program instead.
#ifndef NEVER_THROWS
    std::set_new_handler(round % 8 < 4 ? handler : nullptr);
    try {
        fail(round % 5, round);
    } catch (const std::bad_alloc &) {
        thrown++;
        below(round % 7, round + 1);
    }
    std::set_new_handler(nullptr);
#else
    thrown++;
    below(round % 7, round + 1);
#endif
    level(round + 1);
}

FRAME static void by_failing() {
#ifndef NEVER_THROWS
    void *none[] = {
        ::operator new(huge, std::nothrow),
        ::operator new[](huge, std::nothrow),
        ::operator new(huge, aligned, std::nothrow),
        ::operator new[](huge, aligned, std::nothrow),
    };
    for (void *at : none) {
        KEEP(at);
        if (at != NULL) _exit(6);
        ::operator delete(at);
    }
#endif
}

// Beyond every cache: the allocator's slow ways.
FRAME static void by_large(long n) {
    long bytes = n * 70001;
    char *at = static_cast<char *>(kept(s_large, new char[static_cast<size_t>(bytes)], bytes));
    if (n % 3) {
        gave(s_large, bytes);
        delete[] at;
    }
}

FRAME static void work() {
#define EACH(DO)                                                                                                       \
    DO(by_new)                                                                                                         \
    DO(by_new_sized)                                                                                                   \
    DO(by_new_nothrow)                                                                                                 \
    DO(by_new_aligned)                                                                                                 \
    DO(by_new_aligned_sized)                                                                                           \
    DO(by_new_aligned_nothrow)                                                                                         \
    DO(by_array)                                                                                                       \
    DO(by_array_sized)                                                                                                 \
    DO(by_array_nothrow)                                                                                               \
    DO(by_array_aligned)                                                                                               \
    DO(by_array_aligned_sized)                                                                                         \
    DO(by_array_aligned_nothrow)
#define DECLARE(name) site *s_##name = site_named(#name);
    EACH(DECLARE)
    s_held = heap("*", "**;hold;fail;**;by_throwing;work;main");
    s_below = heap("malloc", "below;**;by_throwing;work;main");
    s_level = heap("*", "**;level;by_throwing;work;main");
    s_large = heap("*", "**;by_large;work;main");
    for (long n = 1; n <= ROUNDS; n++) {
#define CALL(name) name(s_##name, n);
        EACH(CALL)
        by_throwing(n);
        by_failing();
        by_large(n);
    }
}

int main() {
    // Frees of these are all that is left of them.
    static void *older[12];
    for (int at = 0; at < 12; at++) older[at] = ::operator new(100);
    wait_for_go();
    for (int at = 0; at < 12; at++) {
        if (at % 3 == 0) ::operator delete(older[at]);
        if (at % 3 == 1) ::operator delete(older[at], static_cast<size_t>(100));
        if (at % 3 == 2) ::operator delete[](older[at]);
        truth_older++;
    }
    work();
    if (thrown != ROUNDS) _exit(7);
    // The exceptions: jemalloc catches a handler's and throws one of its own.
    say("site heap malloc 0 0 * * __cxa_allocate_exception;**;by_throwing;work;main\n");
    // The unwinder of a static program sorts its tables.
    say("site heap malloc * * * * search_object;**;by_throwing;work;main\n");
    // libstdc++'s operators catch their own.
    say("site heap malloc 0 0 * * __cxa_allocate_exception;**;by_failing;work;main\n");
    say("covers work\n");
    finish();
    _exit(0);
}
