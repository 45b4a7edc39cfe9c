/* gone: a program that has ended before anybody could look at it. */
#include <stdlib.h>

__attribute__((noipa)) static void *hold(size_t bytes) {
    void *held = malloc(bytes);
    /* So that the call is no jump, which would leave no frame. */
    __asm__ volatile("" : "+r"(held) : : "memory");
    return held;
}

int main(void) { return hold(1234) == NULL; }
