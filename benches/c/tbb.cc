/* Peer "tbb": oneTBB's task_arena::enqueue into an arena of N workers, and a std::promise a task for the answer. It has no
 * bound. W1d is its parallel_for.
 * Keeps true: the same workloads, windows and checks as src/workload.rs; the thread that submits does not run tasks. */
#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "bench.h"

namespace {

using answer = std::future<uint64_t>;

uint64_t noop() { return 1; }

/* enqueue calls what it is given as a constant. */
template <typename Callback>
struct task {
    Callback callback;
    mutable std::promise<uint64_t> promise;
    void operator()() const { promise.set_value(callback()); }
};

template <typename Callback>
answer submit(tbb::task_arena &arena, Callback callback) {
    task<Callback> work{callback, {}};
    answer future = work.promise.get_future();
    arena.enqueue(std::move(work));
    return future;
}

/* Submits n, keeps at most `window`, waits for the oldest first; the sum of the answers. */
uint64_t windowed(tbb::task_arena &arena, long n, long window) {
    std::deque<answer> answers;
    uint64_t sum = 0;
    for (long i = 0; i < n; i++) {
        if (static_cast<long>(answers.size()) == window) {
            sum += answers.front().get();
            answers.pop_front();
        }
        answers.push_back(submit(arena, noop));
    }
    for (answer &left : answers) sum += left.get();
    return sum;
}

std::atomic<long> left_to_run;
std::promise<void> *all_ran;

void fire_all(tbb::task_arena &arena, long n) {
    std::promise<void> done;
    all_ran = &done;
    left_to_run = n;
    for (long i = 0; i < n; i++) {
        arena.enqueue([] {
            if (left_to_run.fetch_sub(1) == 1) all_ran->set_value();
        });
    }
    done.get_future().wait();
}

uint64_t producers(tbb::task_arena &arena, const bench &b, int64_t &began) {
    std::vector<std::thread> threads;
    std::atomic<uint64_t> sum{0};
    std::atomic<bool> go{false};
    for (long i = 0; i < b.producers; i++) {
        threads.emplace_back([&] {
            while (!go) std::this_thread::yield();
            sum += windowed(arena, b.n / b.producers, b.window / b.producers);
        });
    }
    began = bench_now();
    go = true;
    for (std::thread &thread : threads) thread.join();
    return sum;
}

std::mutex lock;
std::condition_variable changed;
long stuck_workers;
bool gate_is_open;

uint64_t stuck() {
    std::unique_lock<std::mutex> guard(lock);
    stuck_workers++;
    changed.notify_all();
    changed.wait(guard, [] { return gate_is_open; });
    return 1;
}

/* Gives every worker a callback that waits for the gate, and waits until all are in it. */
std::vector<answer> block_workers(tbb::task_arena &arena, long workers) {
    std::vector<answer> gates;
    for (long i = 0; i < workers; i++) gates.push_back(submit(arena, stuck));
    std::unique_lock<std::mutex> guard(lock);
    changed.wait(guard, [workers] { return stuck_workers == workers; });
    return gates;
}

void open_gate() {
    std::lock_guard<std::mutex> guard(lock);
    gate_is_open = true;
    changed.notify_all();
}

double queued(tbb::task_arena &arena, const bench &b) {
    std::vector<answer> kept(b.handles ? static_cast<size_t>(b.n) : 0);
    double before = bench_status_kib("VmRSS:");
    std::vector<answer> gates = block_workers(arena, b.workers);
    std::atomic<long> ran{0};
    for (long i = 0; i < b.n; i++) {
        if (b.handles) kept[static_cast<size_t>(i)] = submit(arena, [&ran] { return ++ran, noop(); });
        else arena.enqueue([&ran] { ++ran; });
    }
    double bytes = (bench_status_kib("VmRSS:") - before) * 1024.0 / static_cast<double>(b.n);
    open_gate();
    for (answer &gate : gates) gate.get();
    for (answer &left : kept) left.get();
    while (ran < b.n) std::this_thread::yield();
    return bytes;
}

}  // namespace

int main(int argc, char **argv) {
    bench b = bench_flags(argc, argv);
    double n = static_cast<double>(b.n);
    auto wanted = static_cast<size_t>(b.workers);
    /* The thread that submits counts as one. */
    tbb::global_control threads(tbb::global_control::max_allowed_parallelism, wanted + 1);
    tbb::task_arena arena(static_cast<int>(b.workers), 0);

    if (bench_is(&b, "queued")) {
        bench_put(&b, "bytes", queued(arena, b));
        bench_print(&b);
        return 0;
    }
    bench_check(windowed(arena, b.warm_up, b.window), b.warm_up);
    bench_sleep_us(b.settle_ms * 1000);
    uint64_t sum = 0;
    int64_t began = bench_now();
    if (bench_is(&b, "windowed") || bench_is(&b, "all")) {
        sum = windowed(arena, b.n, bench_is(&b, "all") ? b.n : b.window);
        bench_put(&b, "ns_per_task", static_cast<double>(bench_now() - began) / n);
        bench_put(&b, "peak_mb", bench_status_kib("VmHWM:") * 1024.0 / 1e6);
    } else if (bench_is(&b, "fire")) {
        fire_all(arena, b.n);
        bench_put(&b, "ns_per_task", static_cast<double>(bench_now() - began) / n);
        sum = static_cast<uint64_t>(b.n);
    } else if (bench_is(&b, "producers")) {
        sum = producers(arena, b, began);
        bench_put(&b, "ns_per_task", static_cast<double>(bench_now() - began) / n);
    } else if (bench_is(&b, "loop")) {
        std::vector<int64_t> spans(static_cast<size_t>(b.n));
        for (int64_t &span : spans) {
            if (b.pause_us) bench_sleep_us(b.pause_us);
            int64_t before = bench_now();
            sum += submit(arena, noop).get();
            span = bench_now() - before;
        }
        bench_put_spans(&b, spans.data());
    } else if (bench_is(&b, "batch")) {
        std::atomic<uint64_t> ran{0};
        arena.execute([&] {
            tbb::parallel_for(0L, b.n, [&](long) { ran.fetch_add(1, std::memory_order_relaxed); });
        });
        bench_put(&b, "ns_per_task", static_cast<double>(bench_now() - began) / n);
        sum = ran;
    } else {
        bench_fail("tbb: unknown kind");
    }
    bench_check(sum, b.n);
    bench_print(&b);
    return 0;
}
