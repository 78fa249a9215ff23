// What a case of the conformance table names: pools, queues, tokens, tasks, gates, marks, and the fields of its steps.
// Keeps true: names are looked up and added under one lock, under which nothing of duly or of a callback is called; what is
// handed out stays alive while it is used.
#ifndef DULY_TESTS_CPP_CONFORMANCE_WORLD_HPP
#define DULY_TESTS_CPP_CONFORMANCE_WORLD_HPP

#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../c/conformance.h"
#include "duly.hpp"

using namespace std::chrono_literals;
using ms = std::chrono::milliseconds;
using instant = std::chrono::steady_clock::time_point;

inline constexpr auto START = 10s, SETTLE = 5s, THREAD = 20s, CASE = 60s;

// Something is not as expected.
struct wrong : std::runtime_error {
    using std::runtime_error::runtime_error;
};

inline instant now() {
    return std::chrono::steady_clock::now();
}

// Looks again and again until `holds`; false when it does not within `span`.
template <class Look> bool settles(std::chrono::nanoseconds span, Look holds) {
    for (const auto end = now() + span; !holds();) {
        if (now() > end) return false;
        std::this_thread::sleep_for(500us);
    }
    return true;
}

inline void same(const std::string &what, const std::string &got, const std::string &wanted) {
    if (got != wanted) throw wrong(what + " is " + got + ", expected " + wanted);
}
inline void same(const std::string &what, long long got, long long wanted) {
    same(what, std::to_string(got), std::to_string(wanted));
}

class gate {
public:
    void pass() {
        std::unique_lock<std::mutex> locked(lock_);
        changed_.wait(locked, [this] { return open_; });
    }
    void open() {
        const std::lock_guard<std::mutex> locked(lock_);
        open_ = true;
        changed_.notify_all();
    }

private:
    std::mutex lock_;
    std::condition_variable changed_;
    bool open_ = false;
};

using answer = duly::task<long long>;
// How often a pool's hook was told of each kind of event.
using hook_counts = std::array<std::atomic<int>, 6>;

// What is known about a task.
struct record {
    std::atomic<int> starts{0}, drops{0};
    std::atomic<duly::outcome> completed{}, cause{};
    // Under the lock of the world.
    std::shared_ptr<answer> task;

    // Notes an outcome and holds it against what was seen before: there is one, and it stays.
    void saw(duly::outcome how) {
        const auto before = seen_.exchange(how);
        if (before != duly::outcome{}) same("the outcome seen before", duly::name(before), duly::name(how));
    }

private:
    std::atomic<duly::outcome> seen_{};
};

// The fields of a step; each must be read by who does the step.
class step_fields {
public:
    explicit step_fields(const step &it) : step_(&it) {}

    const field *get(const char *key, field_type type) {
        for (std::size_t i = 0; i < step_->count; i++)
            if (std::string(step_->fields[i].key) == key && step_->fields[i].type == type) {
                used_.insert(i);
                return &step_->fields[i];
            }
        return nullptr;
    }
    std::optional<std::string> text(const char *key) {
        const field *found = get(key, TEXT);
        return found ? std::optional<std::string>(found->text) : std::nullopt;
    }
    std::string text(const char *key, const char *otherwise) { return text(key).value_or(otherwise); }
    std::optional<long long> number(const char *key) {
        const field *found = get(key, NUMBER);
        return found ? std::optional<long long>(found->number) : std::nullopt;
    }
    long long number(const char *key, long long otherwise) { return number(key).value_or(otherwise); }
    std::optional<bool> flag(const char *key) {
        const field *found = get(key, FLAG);
        return found ? std::optional<bool>(found->number != 0) : std::nullopt;
    }
    std::optional<std::vector<std::string>> list(const char *key) {
        const field *found = get(key, LIST);
        if (!found) return std::nullopt;
        return std::vector<std::string>(found->list, found->list + found->number);
    }
    void all_used() const {
        for (std::size_t i = 0; i < step_->count; i++)
            if (!used_.count(i)) throw wrong(std::string("unknown field ") + step_->fields[i].key);
    }

private:
    const step *step_;
    std::set<std::size_t> used_;
};

struct stream_of;
struct caller;

class world {
public:
    template <class T> using names = std::map<std::string, T>;

    names<duly::pool> pools;
    names<std::string> pool_names;
    names<duly::queue> queues;
    names<duly::token> tokens;
    names<duly::group> groups;
    names<duly::periodic> periodics;
    names<std::shared_ptr<record>> records;
    names<std::shared_ptr<gate>> gates;
    names<instant> marks;
    names<std::shared_ptr<hook_counts>> hooks;
    names<std::shared_ptr<stream_of>> streams;
    // With the pool its runs go to.
    names<std::pair<duly::single_flight<long long>, duly::pool>> flights;
    names<std::shared_ptr<caller>> callers;

    // A copy of what has that name.
    template <class T> T find(names<T> world::*where, const std::string &name, const char *what) {
        const std::lock_guard<std::mutex> locked(lock_);
        const auto found = (this->*where).find(name);
        if (found == (this->*where).end()) throw wrong(std::string("there is no ") + what + " " + name);
        return found->second;
    }
    template <class T> void add(names<T> world::*where, const std::string &name, T thing, const char *what) {
        const std::lock_guard<std::mutex> locked(lock_);
        if (!(this->*where).emplace(name, std::move(thing)).second) throw wrong(std::string("there are two ") + what + " " + name);
    }
    template <class T> void set(names<T> world::*where, const std::string &name, T thing) {
        const std::lock_guard<std::mutex> locked(lock_);
        (this->*where).insert_or_assign(name, std::move(thing));
    }
    template <class T> T take(names<T> world::*where, const std::string &name, const char *what) {
        T thing = find(where, name, what);
        const std::lock_guard<std::mutex> locked(lock_);
        (this->*where).erase(name);
        return thing;
    }
    template <class T> names<T> all(names<T> world::*where) {
        const std::lock_guard<std::mutex> locked(lock_);
        return this->*where;
    }

    std::shared_ptr<gate> gate_of(const std::string &name) {
        const std::lock_guard<std::mutex> locked(lock_);
        auto &found = gates[name];
        if (!found) found = std::make_shared<gate>();
        if (all_open_) found->open();
        return found;
    }
    void open_all() {
        const std::lock_guard<std::mutex> locked(lock_);
        all_open_ = true;
        for (auto &each : gates) each.second->open();
    }

    // Forks while nobody is inside this world. The child has gates of its own: a thread of the parent may hold the others'.
    pid_t fork_here() {
        lock_.lock();
        const pid_t child = fork();
        lock_.unlock();
        if (child == 0) {
            auto *const kept = new names<std::shared_ptr<gate>>;
            kept->swap(gates);
            all_open_ = false;
        }
        return child;
    }

    // The handle of a task; null when there is none (any more).
    std::shared_ptr<answer> handle_of(const std::string &name) {
        const auto known = find(&world::records, name, "task");
        const std::lock_guard<std::mutex> locked(lock_);
        return known->task;
    }
    std::shared_ptr<answer> set_handle(record &of, std::shared_ptr<answer> task) {
        const std::lock_guard<std::mutex> locked(lock_);
        of.task.swap(task);
        return task;
    }

    void started(const std::string &name) {
        const std::lock_guard<std::mutex> locked(lock_);
        starts_.push_back(name);
    }
    std::vector<std::string> starts() {
        const std::lock_guard<std::mutex> locked(lock_);
        return starts_;
    }

private:
    std::mutex lock_;
    std::vector<std::string> starts_;
    bool all_open_ = false;
};

#endif
