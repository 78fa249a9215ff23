/* Peer "libuv": uv_queue_work on libuv's own pool of threads. It has no handles and no bound: the after-callback, on the
 * thread of the loop, stands for the answer, and who waits runs the loop until it has come.
 * Keeps true: the same workloads, windows and checks as src/workload.rs; the requests lie in memory that was there before
 * the clock starts, as no allocation is asked for by libuv; four producers are four loops over the same pool. */
#include <pthread.h>
#include <uv.h>

#include "bench.h"

struct request {
    uv_work_t work;
    uint64_t answer;
    int done;
};

/* One producer: a loop, and a ring of requests. */
struct side {
    uv_loop_t loop;
    struct request *ring;
    uint64_t sum, submitted, ended;
    long n, window;
};

static void noop(uv_work_t *work) {
    ((struct request *)work)->answer = 1;
}

static void after(uv_work_t *work, int status) {
    struct request *request = (struct request *)work;
    struct side *side = work->loop->data;
    if (status == 0) side->sum += request->answer;
    request->done = 1;
    side->ended++;
}

static void open_side(struct side *side, long n, long window) {
    memset(side, 0, sizeof *side);
    if (uv_loop_init(&side->loop)) bench_fail("uv_loop_init");
    side->loop.data = side;
    side->ring = bench_alloc((size_t)window, sizeof *side->ring);
    side->n = n;
    side->window = window;
}

static void close_side(struct side *side) {
    uv_run(&side->loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&side->loop)) bench_fail("uv_loop_close");
    free(side->ring);
}

static void submit(struct side *side, struct request *request, uv_work_cb callback) {
    request->done = 0;
    side->submitted++;
    if (uv_queue_work(&side->loop, &request->work, callback, after)) bench_fail("uv_queue_work");
}

static void wait_for(struct side *side, struct request *request) {
    while (!request->done) uv_run(&side->loop, UV_RUN_ONCE);
}

static void wait_for_all(struct side *side) {
    while (side->ended < side->submitted) uv_run(&side->loop, UV_RUN_ONCE);
}

/* Submits n, keeps at most `window`, waits for the oldest first. */
static void windowed(struct side *side, long n) {
    for (long i = 0; i < n; i++) {
        struct request *request = &side->ring[i % side->window];
        if (i >= side->window) wait_for(side, request);
        submit(side, request, noop);
    }
    wait_for_all(side);
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

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long stuck_workers;
static int gate_is_open;

static void stuck(uv_work_t *work) {
    pthread_mutex_lock(&lock);
    stuck_workers++;
    pthread_cond_broadcast(&changed);
    while (!gate_is_open) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    noop(work);
}

/* Gives every worker a callback that waits for the gate, and waits until all are in it. */
static void block_workers(struct side *side, struct request *gates, long workers) {
    for (long i = 0; i < workers; i++) submit(side, &gates[i], stuck);
    pthread_mutex_lock(&lock);
    while (stuck_workers < workers) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void open_gate(void) {
    pthread_mutex_lock(&lock);
    gate_is_open = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

int main(int argc, char **argv) {
    struct bench b = bench_flags(argc, argv);
    char workers[16];
    struct side side;
    struct request *gates = bench_alloc((size_t)b.workers, sizeof *gates);
    int keeps_all = bench_is(&b, "all") || bench_is(&b, "fire") || bench_is(&b, "cancel");
    snprintf(workers, sizeof workers, "%ld", b.workers);
    setenv("UV_THREADPOOL_SIZE", workers, 1);

    if (bench_is(&b, "queued")) {
        /* The requests are the tasks: their memory counts, so it is taken after the first look. */
        open_side(&side, b.n, 1);
        double before = bench_status_kib("VmRSS:");
        block_workers(&side, gates, b.workers);
        struct request *tasks = malloc((size_t)b.n * sizeof *tasks);
        if (!tasks) bench_fail("out of memory");
        for (long i = 0; i < b.n; i++) submit(&side, &tasks[i], noop);
        bench_put(&b, "bytes", (bench_status_kib("VmRSS:") - before) * 1024.0 / (double)b.n);
        open_gate();
        close_side(&side);
        bench_check(side.sum, b.n + b.workers);
        bench_print(&b);
        return 0;
    }

    open_side(&side, b.n, keeps_all ? (b.n > b.warm_up ? b.n : b.warm_up) : b.window);
    windowed(&side, b.warm_up);
    bench_check(side.sum, b.warm_up);
    side.sum = 0;
    bench_sleep_us(b.settle_ms * 1000);
    int64_t began = bench_now();
    if (bench_is(&b, "windowed") || bench_is(&b, "fire") || bench_is(&b, "all")) {
        /* Nobody waits in "fire", but somebody has to run the loop: that is the same with all requests kept. */
        windowed(&side, b.n);
        double took = (double)(bench_now() - began);
        bench_put(&b, "ns_per_task", took / (double)b.n);
        bench_put(&b, "seconds", took / 1e9);
        bench_put(&b, "peak_mb", bench_status_kib("VmHWM:") * 1024.0 / 1e6);
    } else if (bench_is(&b, "producers")) {
        side.sum = producers(&b, &began);
        bench_put(&b, "ns_per_task", (double)(bench_now() - began) / (double)b.n);
    } else if (bench_is(&b, "loop")) {
        int64_t *spans = bench_alloc((size_t)b.n, sizeof *spans);
        for (long i = 0; i < b.n; i++) {
            if (b.pause_us) bench_sleep_us(b.pause_us);
            int64_t before = bench_now();
            submit(&side, side.ring, noop);
            wait_for(&side, side.ring);
            spans[i] = bench_now() - before;
        }
        bench_put_spans(&b, spans);
    } else if (bench_is(&b, "cancel")) {
        struct side gate;
        open_side(&gate, 0, 1);
        block_workers(&gate, gates, b.workers);
        for (long i = 0; i < b.n; i++) submit(&side, &side.ring[i], noop);
        began = bench_now();
        for (long i = 0; i < b.n; i++) {
            if (uv_cancel((uv_req_t *)&side.ring[i].work)) bench_fail("uv_cancel");
        }
        bench_put(&b, "cancel_ms", (double)(bench_now() - began) / 1e6);
        wait_for_all(&side);
        double answered = (double)(bench_now() - began) / 1e6;
        bench_put(&b, "ms", answered);
        /* The requests are the caller's memory: there is nothing to let go. */
        bench_put(&b, "let_go_ms", answered);
        bench_check(side.sum, 0);
        side.sum = (uint64_t)b.n;
        open_gate();
        close_side(&gate);
    } else {
        bench_fail("libuv: unknown kind");
    }
    bench_check(side.sum, b.n);
    close_side(&side);
    bench_print(&b);
    return 0;
}
