/* fork: a child that frees copied blocks, allocates and exits; a child that does the same and then becomes
 * another program; and one that becomes it at once, by posix_spawn. The children speak for themselves. */
#include "truth.h"
#include <spawn.h>
#include <sys/wait.h>

#define BLOCKS 60

extern char **environ;
static void *blocks[BLOCKS];
static site *s_before, *s_child, *s_image;

static long bytes_of(int at) { return at * 9 + 5; }

FRAME static void before_fork(int at) {
    blocks[at] = malloc((size_t)bytes_of(at));
    KEEP(blocks[at]);
    took(s_before, bytes_of(at));
}

FRAME static void in_child(int at) {
    blocks[at] = malloc((size_t)bytes_of(at));
    KEEP(blocks[at]);
    took(s_child, bytes_of(at));
}

FRAME static void in_image(int at) {
    blocks[at] = calloc(1, (size_t)bytes_of(at));
    KEEP(blocks[at]);
    took(s_image, bytes_of(at));
}

static void drop(site *of, int at) {
    gave(of, bytes_of(at));
    free(blocks[at]);
    blocks[at] = NULL;
}

/* Frees a third of what was copied and fills the places anew. */
FRAME static void child_work(void) {
    s_child = heap("malloc", "in_child;child_work;work;main");
    for (int at = 0; at < BLOCKS; at += 3) {
        drop(s_before, at);
        in_child(at);
    }
}

/* What the new program knows of the old image: it was allocated, and is gone. */
FRAME static void image(const char *allocated_bytes, const char *allocated_blocks) {
    say("process %d child\n", (int)getpid());
    if (allocated_bytes != NULL)
        say("site heap malloc 0 0 %s %s in_child;child_work;work;main\n", allocated_bytes, allocated_blocks);
    s_image = heap("calloc", "in_image;image;main");
    for (int at = 0; at < BLOCKS; at++) in_image(at);
    for (int at = 0; at < BLOCKS; at += 5) drop(s_image, at);
    tell_sites();
    _exit(0);
}

static void await(pid_t child) {
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) _exit(7);
}

FRAME static void work(void) {
    s_before = heap("malloc", "before_fork;work;main");
    for (int at = 0; at < BLOCKS; at++) before_fork(at);

    pid_t child = fork();
    if (child == 0) {
        child_work();
        /* The copy counts as allocated by the child: that is the whole truth only for what is live. */
        say("process %d child\n", (int)getpid());
        say("site heap malloc %ld %ld * * %s\n", s_before->live_bytes, s_before->live_blocks, s_before->frames);
        say("site heap malloc %ld %ld %ld %ld %s\n", s_child->live_bytes, s_child->live_blocks,
            s_child->allocated_bytes, s_child->allocated_blocks, s_child->frames);
        _exit(0);
    }
    await(child);

    child = fork();
    if (child == 0) {
        static char bytes[32], count[32];
        child_work();
        snprintf(bytes, sizeof bytes, "%ld", s_child->allocated_bytes);
        snprintf(count, sizeof count, "%ld", s_child->allocated_blocks);
        char *arguments[] = {"fork", bytes, count, NULL};
        execve("/proc/self/exe", arguments, environ);
        _exit(8);
    }
    await(child);

    char path[] = "/proc/self/exe";
    static char self[512];
    ssize_t length = readlink(path, self, sizeof self - 1);
    if (length < 0) _exit(8);
    char *arguments[] = {"fork", "image", NULL};
    if (posix_spawn(&child, self, NULL, NULL, arguments, environ) != 0) _exit(8);
    await(child);

    /* The parent goes on as if nothing had happened. */
    for (int at = 0; at < BLOCKS; at += 2) drop(s_before, at);
}

int main(int count, char **arguments) {
    if (count == 3) image(arguments[1], arguments[2]);
    if (count == 2) image(NULL, NULL);
    wait_for_go();
    work();
    say("process %d own\n", (int)getpid());
    finish();
    return 0;
}
