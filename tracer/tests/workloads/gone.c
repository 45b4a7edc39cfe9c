/* gone: a program that has ended before anybody could look at it. */
#include <stdlib.h>

__attribute__((noipa)) static void *hold(size_t bytes) { return malloc(bytes); }

int main(void) {
    void *volatile kept = hold(1234);
    return kept == NULL;
}
