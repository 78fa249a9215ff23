/* Peer "duly-c": the pool of this project through its C header, every promise on; only workers and capacity are set.
 * Keeps true: the same workloads, windows and checks as src/workload.rs; a callback leaves its answer in the caller's memory,
 * which was there before the clock starts, and the handle of each task is waited for and released. */
#include <pthread.h>
#include <stdatomic.h>

#include "bench.h"
#include "duly.h"

/* Where a callback leaves its answer, and its handle. */
struct place {
    duly_task *task;
    uint64_t answer;
};

/* One producer. */
struct side {
    struct place *ring;
    uint64_t sum;
    long n, window;
};

static duly_pool *pool;

static int32_t noop(void *data, duly_call *call) {
    (void)call;
    ((struct place *)data)->answer = 1;
    return 0;
}

static void submit(struct place *place) {
    place->answer = 0;
    if (duly_submit(pool, NULL, noop, place, NULL, &place->task) != DULY_STATUS_OK) bench_fail("duly_submit");
}

static uint64_t wait_for(struct place *place) {
    duly_outcome outcome;
    if (duly_task_wait(place->task, DULY_FOREVER, &outcome) != DULY_STATUS_OK || outcome != DULY_SUCCEEDED)
        bench_fail("a task did not succeed");
    duly_task_release(place->task);
    return place->answer;
}

/* Submits n, keeps at most `window`, waits for the oldest first. */
static void windowed(struct side *side, long n) {
    for (long i = 0; i < n; i++) {
        struct place *place = &side->ring[i % side->window];
        if (i >= side->window) side->sum += wait_for(place);
        submit(place);
    }
    for (long i = n > side->window ? n - side->window : 0; i < n; i++) side->sum += wait_for(&side->ring[i % side->window]);
}

static void open_side(struct side *side, long n, long window) {
    memset(side, 0, sizeof *side);
    side->ring = bench_alloc((size_t)window, sizeof *side->ring);
    side->n = n;
    side->window = window;
}

static atomic_long left_to_run;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t all_ran = PTHREAD_COND_INITIALIZER;

static int32_t count_down(void *data, duly_call *call) {
    (void)data;
    (void)call;
    if (atomic_fetch_sub(&left_to_run, 1) == 1) {
        pthread_mutex_lock(&lock);
        pthread_cond_signal(&all_ran);
        pthread_mutex_unlock(&lock);
    }
    return 0;
}

static void fire_all(long n) {
    atomic_store(&left_to_run, n);
    for (long i = 0; i < n; i++)
        if (duly_submit(pool, NULL, count_down, NULL, NULL, NULL) != DULY_STATUS_OK) bench_fail("duly_submit");
    pthread_mutex_lock(&lock);
    while (atomic_load(&left_to_run)) pthread_cond_wait(&all_ran, &lock);
    pthread_mutex_unlock(&lock);
}

static pthread_barrier_t ready;

static void *produce(void *data) {
    struct side *side = data;
    pthread_barrier_wait(&ready);
    windowed(side, side->n);
    return NULL;
}

static uint64_t producers(const struct bench *b, int64_t *began) {
    struct side *sides = bench_alloc((size_t)b->producers, sizeof *sides);
    pthread_t *threads = bench_alloc((size_t)b->producers, sizeof *threads);
    uint64_t sum = 0;
    pthread_barrier_init(&ready, NULL, (unsigned)b->producers + 1);
    for (long i = 0; i < b->producers; i++) {
        open_side(&sides[i], b->n / b->producers, b->window / b->producers);
        if (pthread_create(&threads[i], NULL, produce, &sides[i])) bench_fail("pthread_create");
    }
    pthread_barrier_wait(&ready);
    *began = bench_now();
    for (long i = 0; i < b->producers; i++) {
        pthread_join(threads[i], NULL);
        sum += sides[i].sum;
    }
    return sum;
}

int main(int argc, char **argv) {
    struct bench b = bench_flags(argc, argv);
    struct side side;
    duly_pool_options options = DULY_POOL_OPTIONS_INIT;
    options.workers = (uint32_t)b.workers;
    options.capacity = (uint32_t)b.capacity;
    if (duly_pool_new(&options, &pool) != DULY_STATUS_OK) bench_fail("duly_pool_new");

    open_side(&side, b.n, b.window);
    windowed(&side, b.warm_up);
    bench_check(side.sum, b.warm_up);
    side.sum = 0;
    bench_sleep_us(b.settle_ms * 1000);
    int64_t began = bench_now();
    if (bench_is(&b, "windowed")) {
        windowed(&side, b.n);
        bench_put(&b, "ns_per_task", (double)(bench_now() - began) / (double)b.n);
    } else if (bench_is(&b, "fire")) {
        fire_all(b.n);
        bench_put(&b, "ns_per_task", (double)(bench_now() - began) / (double)b.n);
        side.sum = (uint64_t)b.n;
    } else if (bench_is(&b, "producers")) {
        side.sum = producers(&b, &began);
        bench_put(&b, "ns_per_task", (double)(bench_now() - began) / (double)b.n);
    } else if (bench_is(&b, "loop")) {
        int64_t *spans = bench_alloc((size_t)b.n, sizeof *spans);
        for (long i = 0; i < b.n; i++) {
            if (b.pause_us) bench_sleep_us(b.pause_us);
            int64_t before = bench_now();
            submit(side.ring);
            side.sum += wait_for(side.ring);
            spans[i] = bench_now() - before;
        }
        bench_put_spans(&b, spans);
    } else {
        bench_fail("duly-c: unknown kind");
    }
    bench_check(side.sum, b.n);
    duly_pool_release(pool);
    bench_print(&b);
    return 0;
}
