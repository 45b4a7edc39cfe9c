// exceptions: throws through frames that hold blocks, which their destructors free on the way; caught at
// several depths, thrown again, and followed at once by other allocations at the depth that was left.
#include "truth.h"
#include <new>
#include <stdexcept>

static site *s_hold, *s_lost, *s_after, *s_array;
static long thrown;

// Owns a block by `operator new`.
class Holder {
  public:
    Holder(site *of, void *at, long bytes) : of_(of), at_(at), bytes_(bytes) {
        KEEP(at_);
        took(of, bytes);
    }
    ~Holder() {
        gave(of_, bytes_);
        ::operator delete(at_);
    }
    Holder(const Holder &) = delete;
    Holder &operator=(const Holder &) = delete;

  private:
    site *of_;
    void *at_;
    long bytes_;
};

FRAME static long hold(long depth, long bottom) {
    volatile char pad[55];
    pad[depth] = 1;
    long bytes = depth * 11 + 3;
    Holder holder(s_hold, ::operator new(static_cast<size_t>(bytes)), bytes);
    if (depth == bottom) {
        thrown++;
        throw std::runtime_error("as meant");
    }
    return hold(depth + 1, bottom) + pad[depth];
}

// Is passed by the exception, and forgets what it holds.
FRAME static long lose(long depth, long bottom) {
    void *lost = malloc(static_cast<size_t>(depth + 1));
    KEEP(lost);
    took(s_lost, depth + 1);
    if (depth == 0) return hold(0, bottom) + 1;
    return lose(depth - 1, bottom) + 1;
}

FRAME static long rethrow(long bottom) {
    try {
        return lose(2, bottom) + 1;
    } catch (const std::exception &) {
        throw;
    }
}

FRAME static void after(long round) {
    long bytes = round % 40 + 1;
    char *at = static_cast<char *>(malloc(static_cast<size_t>(bytes)));
    KEEP(at);
    took(s_after, bytes);
    gave(s_after, bytes);
    free(at);
}

FRAME static void array(long round) {
    char *at = new char[static_cast<size_t>(round + 1)];
    KEEP(at);
    took(s_array, round + 1);
    if (round % 2) {
        gave(s_array, round + 1);
        delete[] at;
    }
}

FRAME static void work() {
    s_hold = heap("malloc", "operator new(unsigned long);hold");
    s_lost = heap("malloc", "lose");
    s_after = heap("malloc", "after;work;main");
    s_array = heap("malloc", "operator new(unsigned long);**;array;work;main");
    for (volatile long round = 0; round < 200; round++) {
        try {
            rethrow(round % 20);
        } catch (const std::runtime_error &) {
            after(round);
        }
        array(round);
        after(round);
    }
}

int main() {
    wait_for_go();
    work();
    // The exception objects, of which only the number is known here.
    say("site heap malloc 0 0 * %ld __cxa_allocate_exception;hold\n", thrown);
    // Their texts; this pattern holds for the other blocks of `hold` too, whose line says more.
    say("site heap * * * * * operator new(unsigned long);**;hold\n");
    say("covers hold\ncovers lose\ncovers after\ncovers array\n");
    finish();
    return 0;
}
