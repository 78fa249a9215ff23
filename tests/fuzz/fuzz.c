/* Random programs over the whole C ABI: fuzz --seed N [--calls N] [--limit SECONDS] [--plant FAULT]
 *
 * One run of this program is one random program: two threads and their callbacks call functions with NULLs, ended, taken and
 * foreign handles, absurd sizes and spans. Which calls with which arguments follows from the seed alone.
 * Keeps true: only what the header allows is done (no handle after its last release, no memory that is not there), so whatever
 * goes wrong is the library's fault. It is a failure when: the process crashes, hangs, or answers DULY_STATUS_PANIC; an output is
 * written without OK; bytes beyond a struct's size are written; a view is NULL; drop runs twice, or never, or runs although
 * the data stayed the caller's. A failure prints the seed and the last calls. Leaks are for the sanitizer it is built with.
 * Exit status: 0, or 1 after a failure, or a signal. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include "duly.h"

#include "kinds.inc"

#define MARK ((void *)0x5a5a5a5a5a5a5a58)
enum { SLOTS = 24, LINES = 400, GIFTS = 3 };

/* The references that one thread, or one callback, holds. */
typedef struct {
    uint64_t random;
    int depth;
    /* Nothing may wait without an end here: nobody else will end it. */
    int patient;
    struct {
        void *handle[SLOTS];
        int count;
    } held[KINDS];
    unsigned char *room[4];
    int next_room;
    unsigned char *guard;
    size_t guard_size;
} world;

/* ---- what is printed when something is wrong ---- */

static uint64_t the_seed;
static char lines[LINES][160];
static atomic_uint next_line;
static const char *planted = "";

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(lines[atomic_fetch_add(&next_line, 1) % LINES], sizeof lines[0], format, arguments);
    va_end(arguments);
}

static void put(const char *text) {
    if (write(STDERR_FILENO, text, strlen(text)) < 0)
        return;
}

static void print_lines(void) {
    unsigned end = atomic_load(&next_line), begin = end > LINES ? end - LINES : 0;
    char head[96];
    snprintf(head, sizeof head, "the calls of --seed %llu, the last of %u:\n", (unsigned long long)the_seed, end);
    put(head);
    for (unsigned i = begin; i < end; i++) {
        put("  ");
        put(lines[i % LINES]);
        put("\n");
    }
}

__attribute__((noreturn)) static void fail(const char *what) {
    print_lines();
    put("fuzz: ");
    put(what);
    put("\n");
    _exit(1);
}

static void on_signal(int number) {
    print_lines();
    put(number == SIGALRM ? "fuzz: hung\n" : "fuzz: crashed\n");
    signal(number, SIG_DFL);
    raise(number == SIGALRM ? SIGKILL : number);
}

static _Thread_local unsigned thread_number;
static atomic_uint threads_seen;

static void note_call(world *w, const char *name, int count, unsigned long long a, unsigned long long b, unsigned long long c,
                      unsigned long long d) {
    if (thread_number == 0)
        thread_number = 1 + atomic_fetch_add(&threads_seen, 1);
    say("t%u%s %s/%d (%llx, %llx, %llx, %llx)", thread_number, w->depth ? " callback" : "", name, count, a, b, c, d);
}

static void note_result(world *w, long got) {
    (void)w;
    say("t%u   = %ld", thread_number, got);
    if (got == DULY_STATUS_PANIC)
        fail("a panic inside the library");
}

/* ---- chance ---- */

static uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static uint64_t below(world *w, uint64_t limit) { return next_random(&w->random) % limit; }
/* Once in so many. */
static int chance(world *w, uint64_t many) { return below(w, many) == 0; }

static uint32_t any_u32(world *w) {
    static const uint32_t some[] = {0, 1, 2, 3, 7, 64, 1000, 65536, 0x7fffffff, 0x80000000u, UINT32_MAX - 1, UINT32_MAX};
    return some[below(w, sizeof some / sizeof some[0])];
}
static uint32_t any_workers(world *w) {
    /* Threads are not free: a number that is allowed has to be small. */
    static const uint32_t some[] = {0, 1, 1, 2, 2, 3, 5, 0x80000000u, UINT32_MAX};
    return some[below(w, sizeof some / sizeof some[0])];
}
static int32_t any_i32(world *w) { return chance(w, 3) ? (int32_t)any_u32(w) : (int32_t)below(w, 10) - (chance(w, 2) ? 90 : 0); }
static uint64_t any_u64(world *w) {
    return chance(w, 8) ? UINT64_MAX - below(w, 2) : chance(w, 4) ? (uint64_t)1 << below(w, 64) : below(w, 3000000);
}
/* Most spans are short. One that is not is for those whose waits somebody ends. */
static uint64_t any_span(world *w) {
    if (w->patient && chance(w, 12))
        return chance(w, 2) ? DULY_FOREVER : (uint64_t)1 << (40 + below(w, 24));
    static const uint64_t some[] = {0, 0, 1, 1000, 50000, 500000, 2000000};
    return some[below(w, sizeof some / sizeof some[0])];
}
static size_t any_size(world *w) { return chance(w, 6) ? SIZE_MAX - below(w, 3) : chance(w, 6) ? (size_t)1 << below(w, 62) : below(w, 9); }
static uint32_t any_version(world *w, size_t ours) {
    switch (below(w, 14)) {
    case 0: return any_u32(w);
    case 1: return (uint32_t)(ours + 8 * below(w, 100));
    case 2: return (uint32_t)(ours - 8 * below(w, 6));
    default: return (uint32_t)ours;
    }
}
static inline int any_bool(world *w) { return chance(w, 2); }
static const char *any_text(world *w) {
    static const char *const some[] = {"", "a", "label", "caller_left", "\xff\xfe not utf-8", "line\nbreak %s %n"};
    return chance(w, 6) ? NULL : some[below(w, sizeof some / sizeof some[0])];
}
static const void *any_key(world *w, size_t *size) {
    static const char bytes[64] = "keys, of which some are alike";
    *size = chance(w, 8) ? 0 : below(w, 65);
    if (chance(w, 8))
        return NULL;
    return bytes + (*size <= 32 ? below(w, 3) : 0);
}
static const int some_signals[] = {SIGUSR2, SIGUSR2, SIGKILL, 0, 9999};

static unsigned char *scratch(world *w, size_t size) {
    unsigned char *room = w->room[w->next_room++ % 4];
    memset(room, 0, size);
    return room;
}
/* Memory for a struct that the library fills in, with a pattern that shows what was written. */
static void *guarded(world *w) {
    memset(w->guard, 0xa5, w->guard_size);
    return w->guard;
}
static _Thread_local world *current;
static void guard_holds(size_t written, const char *name) {
    (void)name;
    for (size_t i = written; i < current->guard_size; i++)
        if (current->guard[i] != 0xa5)
            fail("bytes were written beyond the size, or without OK");
}

/* ---- handles ---- */

/* The pools of a patient program, to be ended: a reference of its own to each, and a token to some. */
enum { ENDED = 1024 };
static duly_pool *_Atomic ended_pools[ENDED];
static duly_token *ended_tokens[ENDED];
static atomic_int ended_count;

static void own(world *w, int kind, void *handle, const char *from) {
    if (handle == NULL || handle == MARK) {
        say("%s", from);
        fail("OK without a handle");
    }
    if (w->patient && kind == KIND_duly_pool && strcmp(from, "duly_pool_new") == 0) {
        int index = atomic_fetch_add(&ended_count, 1);
        if (index < ENDED)
            atomic_store(&ended_pools[index], duly_pool_retain(handle));
    }
    if (w->held[kind].count == SLOTS)
        release_handle(kind, w->held[kind].handle[--w->held[kind].count]);
    w->held[kind].handle[w->held[kind].count++] = handle;
}

static void *not_a_handle(world *w, int kind) {
    static uint64_t junk[16] = {1, 2, 3};
    int other = (int)below(w, KINDS);
    switch (below(w, 4)) {
    case 0: return NULL;
    case 1: return (char *)&junk[2] + 1;
    case 2: return w->held[other].count && other != kind ? w->held[other].handle[0] : NULL;
    default: return &junk[4];
    }
}
static void *pick(world *w, int kind) {
    int count = w->held[kind].count;
    if (chance(w, 16) || count == 0)
        return not_a_handle(w, kind);
    return w->held[kind].handle[below(w, (uint64_t)count)];
}
/* A reference that the caller has no more. */
static void *give_up(world *w, int kind) {
    int count = w->held[kind].count;
    if (chance(w, 10) || count == 0)
        return not_a_handle(w, kind);
    uint64_t index = below(w, (uint64_t)count);
    void *handle = w->held[kind].handle[index];
    w->held[kind].handle[index] = w->held[kind].handle[--w->held[kind].count];
    return handle;
}

/* ---- what callbacks own ---- */

typedef struct probe {
    uint64_t seed;
    atomic_int state; /* MADE, OWNED, DROPPED */
    int gift_kind[GIFTS];
    void *gift[GIFTS];
    int depth, patient;
} probe;
enum { MADE, OWNED, DROPPED };
static atomic_long probes_owned, probes_dropped;

static void random_calls(world *w, int count);
static int open_world(world *w, uint64_t seed, int depth, int patient);
static void close_world(world *w);
static void probe_drop(void *data);

static probe *any_probe(world *w) {
    probe *p = calloc(1, sizeof *p);
    if (p == NULL)
        abort();
    p->seed = next_random(&w->random);
    p->depth = w->depth + 1;
    p->patient = w->patient;
    for (int i = 0; i < GIFTS; i++) {
        int kind = (int)below(w, KINDS);
        /* A pool that is held by its own tasks would never be dropped. */
        p->gift_kind[i] = kind;
        if (w->held[kind].count && (kind == KIND_duly_task || kind == KIND_duly_token || (kind == KIND_duly_pool && w->patient)))
            p->gift[i] = retain_handle(kind, w->held[kind].handle[below(w, (uint64_t)w->held[kind].count)]);
    }
    /* Before the call: drop may come before it returns. */
    atomic_fetch_add(&probes_owned, 1);
    return p;
}
static void probe_free(probe *p) {
    for (int i = 0; i < GIFTS; i++)
        if (p->gift[i] != NULL)
            release_handle(p->gift_kind[i], p->gift[i]);
    free(p);
}
static void probe_handed_over(probe *p) {
    (void)p;
    if (strcmp(planted, "double-drop") == 0 && atomic_load(&probes_owned) > 3)
        probe_drop(p);
}
static void probe_stays(probe *p) {
    if (atomic_load(&p->state) != MADE)
        fail("drop was called although the data stayed the caller's");
    atomic_fetch_sub(&probes_owned, 1);
    probe_free(p);
}
static void value_taken(void *value) {
    if (value != NULL)
        probe_drop(value);
}

static int32_t probe_run(void *data, duly_call *call) {
    probe *p = data;
    uint64_t random = p->seed;
    world w;
    if (strcmp(planted, "crash") == 0)
        *(volatile int *)(uintptr_t)8 = 1;
    while (strcmp(planted, "hang") == 0)
        pause();
    switch (next_random(&random) % 8) {
    case 0: return (int32_t)next_random(&random);
    case 1: usleep((useconds_t)(next_random(&random) % 3000)); return 0;
    case 2:
        for (int i = 0; i < 20 && !duly_call_is_cancelled(call); i++)
            usleep(1000);
        return 0;
    case 3: sched_yield(); return 0;
    default: break;
    }
    if (p->depth > 2 || !open_world(&w, random, p->depth, p->patient))
        return 0;
    w.held[KIND_duly_call].handle[0] = call;
    w.held[KIND_duly_call].count = 1;
    for (int i = 0; i < GIFTS; i++)
        if (p->gift[i] != NULL && retain_handle(p->gift_kind[i], p->gift[i]) == p->gift[i])
            own(&w, p->gift_kind[i], p->gift[i], "a gift");
    world *outer = current;
    current = &w;
    random_calls(&w, (int)below(&w, 6));
    w.held[KIND_duly_call].count = 0;
    close_world(&w);
    current = outer;
    return (int32_t)(next_random(&random) % 3);
}

static void probe_drop(void *data) {
    probe *p = data;
    if (p == NULL)
        return;
    if (atomic_exchange(&p->state, DROPPED) == DROPPED)
        fail("drop was called twice");
    atomic_fetch_add(&probes_dropped, 1);
    /* In the planted fault nothing may go, or the second look at it would be a fault of its own. */
    if (strcmp(planted, "double-drop") != 0)
        probe_free(p);
}

#include "calls.inc"

static uint64_t weights;
static void random_calls(world *w, int count) {
    for (int i = 0; i < count; i++) {
        uint64_t at = below(w, weights);
        size_t index = 0;
        while (at >= (uint64_t)calls[index].weight)
            at -= (uint64_t)calls[index++].weight;
        calls[index].call(w);
    }
}

static int open_world(world *w, uint64_t seed, int depth, int patient) {
    memset(w, 0, sizeof *w);
    w->random = seed;
    w->depth = depth;
    w->patient = patient;
    w->guard_size = 8192;
    /* One piece: four rooms for options, one for what is filled in. A size that is refused is never looked at. */
    unsigned char *memory = malloc(5 * 8192);
    if (memory == NULL)
        return 0;
    for (int i = 0; i < 4; i++)
        w->room[i] = memory + i * 8192;
    w->guard = memory + 4 * 8192;
    return 1;
}
static void close_world(world *w) {
    for (int kind = 0; kind < KINDS; kind++)
        while (w->held[kind].count)
            release_handle(kind, w->held[kind].handle[--w->held[kind].count]);
    free(w->room[0]);
}

static atomic_int programs_over;

/* In a patient program nothing waits for ever, as everything is ended from outside after a while: P4. */
static void *end_everything(void *data) {
    (void)data;
    for (int i = 0; i < 150 && atomic_load(&programs_over) < 2; i++)
        usleep(1000);
    for (int ended = 0; atomic_load(&programs_over) < 2; usleep(1000))
        for (; ended < ENDED && atomic_load(&ended_pools[ended]) != NULL; ended++) {
            duly_token_cancel(ended_tokens[ended]);
            duly_pool_shutdown(atomic_load(&ended_pools[ended]), 0, NULL);
        }
    return NULL;
}

typedef struct {
    world w;
    int calls;
} program;

static void *run_program(void *data) {
    program *p = data;
    current = &p->w;
    random_calls(&p->w, p->calls);
    atomic_fetch_add(&programs_over, 1);
    return NULL;
}

static duly_pool *some_pool(world *w) {
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    duly_pool *pool = NULL;
    options.workers = 1 + (uint32_t)below(w, 3);
    options.capacity = 1 + (uint32_t)below(w, 8);
    options.overflow = (int32_t)below(w, 6);
    options.threads = (int32_t)below(w, 3);
    options.replace_after_ns = 1 + below(w, 5000000);
    options.drop_drain_ns = 1 + below(w, 5000000);
    if (duly_pool_new(&options, &pool) != DULY_STATUS_OK)
        fail("no pool");
    return pool;
}

int main(int argc, char **argv) {
    static program programs[2];
    pthread_t threads[2], ender;
    int count = 300, patient;
    unsigned limit = 40;
    world chooser;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seed") == 0)
            the_seed = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--calls") == 0)
            count = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--limit") == 0)
            limit = (unsigned)atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--plant") == 0)
            planted = argv[i + 1];
    }
    /* A stack of its own, should the other one be full. */
    static unsigned char room[65536];
    stack_t stack = {.ss_sp = room, .ss_size = sizeof room};
    struct sigaction crash = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    sigaltstack(&stack, NULL);
    sigaction(SIGSEGV, &crash, NULL);
    sigaction(SIGBUS, &crash, NULL);
    sigaction(SIGABRT, &crash, NULL);
    signal(SIGALRM, on_signal);
    alarm(limit);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        weights += (uint64_t)calls[i].weight;

    if (!open_world(&chooser, the_seed, 0, 0))
        return 2;
    patient = chance(&chooser, 2);
    int pools = 1 + (int)below(&chooser, 3);
    for (int i = 0; i < 2; i++)
        if (!open_world(&programs[i].w, next_random(&chooser.random), 0, patient))
            return 2;
    for (int i = 0; i < pools; i++) {
        duly_pool *pool = some_pool(&chooser);
        duly_token *token = NULL;
        if (duly_token_new(&token) != DULY_STATUS_OK)
            fail("no token");
        if (patient) {
            ended_tokens[i] = token;
            atomic_store(&ended_pools[atomic_fetch_add(&ended_count, 1)], pool);
        }
        for (int k = 0; k < 2; k++) {
            own(&programs[k].w, KIND_duly_pool, retain_handle(KIND_duly_pool, pool), "main");
            own(&programs[k].w, KIND_duly_token, retain_handle(KIND_duly_token, token), "main");
        }
        if (!patient) {
            duly_pool_release(pool);
            duly_token_release(token);
        }
    }
    for (int i = 0; i < 2; i++) {
        programs[i].calls = count;
        if (pthread_create(&threads[i], NULL, run_program, &programs[i]) != 0)
            return 2;
    }
    if (patient && pthread_create(&ender, NULL, end_everything, NULL) != 0)
        return 2;
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    if (patient) {
        pthread_join(ender, NULL);
        for (int i = 0; i < ENDED && ended_pools[i] != NULL; i++) {
            duly_pool_shutdown(ended_pools[i], 0, NULL);
            duly_pool_release(ended_pools[i]);
            duly_token_release(ended_tokens[i]);
        }
    }
    /* What is still held is shut down first, so that nobody has to wait for a drain in the background. */
    for (int i = 0; i < 2; i++) {
        world *w = &programs[i].w;
        for (int k = 0; k < w->held[KIND_duly_pool].count; k++)
            duly_pool_shutdown(w->held[KIND_duly_pool].handle[k], 0, NULL);
        if (strcmp(planted, "leak") == 0)
            w->held[KIND_duly_task].count = 0;
        close_world(w);
    }
    close_world(&chooser);
    /* Everything that was handed over is given back. */
    for (int i = 0; i < 20000 && atomic_load(&probes_dropped) < atomic_load(&probes_owned); i++)
        usleep(1000);
    if (atomic_load(&probes_dropped) != atomic_load(&probes_owned)) {
        say("%ld owned, %ld dropped", atomic_load(&probes_owned), atomic_load(&probes_dropped));
        fail("what was handed over was not dropped");
    }
#ifdef __SANITIZE_ADDRESS__
    /* A worker that has dropped what it was handed may be about to free the task's own memory: a leak is what stays. */
    for (int i = 0; i < 30 && __lsan_do_recoverable_leak_check() != 0; i++)
        usleep(100000);
#endif
    return 0;
}
