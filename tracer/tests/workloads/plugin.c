/* plugin: the library that `loader` opens; it allocates by itself and calls back. */
#include <stdlib.h>

#define FRAME __attribute__((noipa, optimize("no-optimize-sibling-calls")))

FRAME static void *plugin_leaf(size_t bytes) {
    volatile char pad[301];
    pad[bytes % sizeof pad] = 1;
    void *at = malloc(bytes);
    __asm__ volatile("" : "+r"(at));
    return pad[bytes % sizeof pad] ? at : NULL;
}

FRAME static void *plugin_middle(size_t bytes) {
    void *at = plugin_leaf(bytes);
    __asm__ volatile("" : "+r"(at));
    return at;
}

FRAME void *plugin_allocate(size_t bytes) {
    void *at = plugin_middle(bytes);
    __asm__ volatile("" : "+r"(at));
    return at;
}

FRAME void *plugin_call(void *(*back)(size_t), size_t bytes) {
    void *at = back(bytes);
    __asm__ volatile("" : "+r"(at));
    return at;
}
