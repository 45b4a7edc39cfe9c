/* signals: handlers that allocate, called at a known place and at any instruction of a loop, on the
 * thread's own stack and on a stack of their own. The interrupted function is never the allocator. */
#define _GNU_SOURCE
#include "truth.h"
#include <signal.h>
#include <sys/time.h>

#define ROUNDS 100

static site *s_raised, *s_aside, *s_alarm, *s_alarm_aside, *s_after;
static site *volatile s_now;
static volatile int alarms;
static char aside[1 << 16];

/* Two blocks, one of which stays. */
FRAME static void in_handler(long bytes) {
    void *kept = malloc((size_t)bytes);
    KEEP(kept);
    took(s_now, bytes);
    void *gone = malloc((size_t)bytes * 2);
    KEEP(gone);
    took(s_now, bytes * 2);
    gave(s_now, bytes * 2);
    free(gone);
}

FRAME static void on_signal(int number) {
    volatile char pad[333];
    pad[number] = 1;
    in_handler(number * pad[number]);
}

FRAME static void on_alarm(int number) {
    in_handler(number);
    alarms++;
}

FRAME static void strike(void) { raise(SIGUSR1); }

/* Pushes and pops, so that the stack pointer is somewhere else at each instruction. */
FRAME static unsigned long churn(unsigned long a, unsigned long b) {
    unsigned long c = a * 31, d = b * 17, e = a ^ b, f = a + b;
    __asm__ volatile("" : "+r"(c), "+r"(d), "+r"(e), "+r"(f));
    return c + d + e + f;
}

FRAME static void spin(int until) {
    volatile unsigned long sum = 1;
    while (alarms < until) sum += churn(sum, sum >> 3);
}

static void handle(int number, void (*handler)(int), int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    if (sigaction(number, &action, NULL) != 0) _exit(5);
}

static void tick(long microseconds) {
    struct itimerval every = {{0, microseconds}, {0, microseconds}};
    if (setitimer(ITIMER_REAL, &every, NULL) != 0) _exit(5);
}

FRAME static void after(long round) {
    void *at = malloc((size_t)round + 1);
    KEEP(at);
    took(s_after, round + 1);
    gave(s_after, round + 1);
    free(at);
}

FRAME static void raised(void) {
    s_now = s_raised;
    handle(SIGUSR1, on_signal, 0);
    for (long round = 0; round < ROUNDS; round++) strike(), after(round);
}

FRAME static void raised_aside(void) {
    s_now = s_aside;
    handle(SIGUSR1, on_signal, SA_ONSTACK);
    for (long round = 0; round < ROUNDS; round++) strike(), after(round);
}

FRAME static void interrupted(void) {
    s_now = s_alarm;
    handle(SIGALRM, on_alarm, SA_RESTART);
    tick(1000);
    spin(ROUNDS);
    tick(0);
}

FRAME static void interrupted_aside(void) {
    s_now = s_alarm_aside;
    handle(SIGALRM, on_alarm, SA_RESTART | SA_ONSTACK);
    tick(1000);
    spin(alarms + ROUNDS);
    tick(0);
}

FRAME static void work(void) {
    stack_t stack = {.ss_sp = aside, .ss_size = sizeof aside};
    if (sigaltstack(&stack, NULL) != 0) _exit(5);
    s_raised = heap("malloc", "in_handler;on_signal;**;strike;raised;work;main");
    s_aside = heap("malloc", "in_handler;on_signal;**;strike;raised_aside;work;main");
    /* Between the handler and what it interrupted lies the kernel's return trampoline; in `spin`, or in
     * the functions it calls, any instruction can be the one. */
    s_alarm = heap("malloc", "in_handler;on_alarm;**;interrupted;work;main");
    s_alarm_aside = heap("malloc", "in_handler;on_alarm;**;interrupted_aside;work;main");
    s_after = heap("malloc", "after;**;work;main");
    raised();
    raised_aside();
    interrupted();
    interrupted_aside();
}

int main(void) {
    wait_for_go();
    work();
    say("covers work\n");
    finish();
    return 0;
}
