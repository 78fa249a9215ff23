/* What the C and C++ peers share: the flags of a row, the clock, the figures as one line of JSON.
 * Keeps true: the flags are those of src/peers/external.rs; a sum of answers that is wrong ends the program with 1. */
#ifndef DULY_BENCHES_BENCH_H
#define DULY_BENCHES_BENCH_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct bench {
    const char *row, *peer, *kind;
    long workers, n, capacity, window, producers, warm_up, settle_ms, pause_us, handles;
    char figures[512];
};

static inline void bench_fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static inline void *bench_alloc(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (!memory) bench_fail("out of memory");
    return memory;
}

static inline int64_t bench_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline void bench_sleep_us(long us) {
    struct timespec span = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&span, NULL);
}

static inline struct bench bench_flags(int argc, char **argv) {
    struct bench b = {"", "", "", 2, 1000000, 1024, 1024, 4, 4096, 0, 0, 0, ""};
    struct {
        const char *name;
        long *number;
        const char **text;
    } flags[] = {
        {"row", NULL, &b.row},
        {"peer", NULL, &b.peer},
        {"kind", NULL, &b.kind},
        {"workers", &b.workers, NULL},
        {"n", &b.n, NULL},
        {"capacity", &b.capacity, NULL},
        {"window", &b.window, NULL},
        {"producers", &b.producers, NULL},
        {"warm-up", &b.warm_up, NULL},
        {"settle-ms", &b.settle_ms, NULL},
        {"pause-us", &b.pause_us, NULL},
        {"handles", &b.handles, NULL},
    };
    for (int i = 1; i < argc; i++) {
        const char *value = strchr(argv[i], '=');
        size_t length = value ? (size_t)(value - argv[i]) : 0;
        for (size_t f = 0; value && f < sizeof flags / sizeof *flags; f++) {
            if (strlen(flags[f].name) + 1 != length || strncmp(argv[i] + 1, flags[f].name, length - 1) != 0) continue;
            if (flags[f].number) *flags[f].number = atol(value + 1);
            else *flags[f].text = value + 1;
        }
    }
    return b;
}

static inline int bench_is(const struct bench *b, const char *kind) {
    return strcmp(b->kind, kind) == 0;
}

static inline void bench_put(struct bench *b, const char *name, double value) {
    size_t length = strlen(b->figures);
    snprintf(b->figures + length, sizeof b->figures - length, "%s\"%s\":%.17g", length ? "," : "", name, value);
}

/* Each answer is 1, so a sum other than n is an answer lost or given twice. */
static inline void bench_check(uint64_t sum, long n) {
    if (sum != (uint64_t)n) {
        fprintf(stderr, "the answers sum to %llu, not %ld\n", (unsigned long long)sum, n);
        exit(1);
    }
}

static inline int bench_by_size(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static inline void bench_put_spans(struct bench *b, int64_t *spans) {
    qsort(spans, (size_t)b->n, sizeof *spans, bench_by_size);
    bench_put(b, "p50_ns", (double)spans[b->n / 2]);
    bench_put(b, "p99_ns", (double)spans[b->n * 99 / 100]);
}

/* A figure of this process in KiB, as the kernel counts it. */
static inline double bench_status_kib(const char *name) {
    char line[256];
    double kib = -1;
    FILE *status = fopen("/proc/self/status", "r");
    if (!status) bench_fail("no /proc/self/status");
    while (fgets(line, sizeof line, status)) {
        if (strncmp(line, name, strlen(name)) == 0) kib = atof(line + strlen(name));
    }
    fclose(status);
    if (kib < 0) bench_fail("no such line in /proc/self/status");
    return kib;
}

static inline void bench_print(const struct bench *b) {
    printf("{\"row\":\"%s\",\"peer\":\"%s\",\"workers\":%ld,\"n\":%ld,\"figures\":{%s}}\n", b->row, b->peer, b->workers,
           b->n, b->figures);
}

#endif
