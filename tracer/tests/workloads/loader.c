/* loader: opens the library given as its argument while it runs, has it allocate, closes it, opens it
 * again. Frames of the library lie between frames of the program. */
#include "truth.h"
#include <dlfcn.h>

#define BLOCKS 80

static site *s_plugin, *s_back;

FRAME static void *called_back(size_t bytes) {
    void *at = malloc(bytes);
    KEEP(at);
    return at;
}

FRAME static void work(const char *path) {
    static void *blocks[BLOCKS];
    s_plugin = heap("malloc", "plugin_leaf;plugin_middle;plugin_allocate;work;main");
    s_back = heap("malloc", "called_back;plugin_call;work;main");
    for (int round = 0; round < 2; round++) {
        void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (plugin == NULL) {
            say("cannot open %s: %s\n", path, dlerror());
            _exit(9);
        }
        void *(*allocate)(size_t) = (void *(*)(size_t))dlsym(plugin, "plugin_allocate");
        void *(*call)(void *(*)(size_t), size_t) =
            (void *(*)(void *(*)(size_t), size_t))dlsym(plugin, "plugin_call");
        if (allocate == NULL || call == NULL) _exit(9);
        for (int at = 0; at < BLOCKS; at++) {
            long bytes = at * 3 + 1;
            site *of = at % 2 ? s_plugin : s_back;
            blocks[at] = at % 2 ? allocate((size_t)bytes) : call(called_back, (size_t)bytes);
            KEEP(blocks[at]);
            took(of, bytes);
            if (at % 4 < 2) {
                gave(of, bytes);
                free(blocks[at]);
            }
        }
        if (round == 0) dlclose(plugin);
    }
}

int main(int count, char **arguments) {
    if (count != 2) return 9;
    wait_for_go();
    work(arguments[1]);
    say("covers plugin_leaf\ncovers called_back\n");
    finish();
    return 0;
}
