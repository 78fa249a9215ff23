// Streams: a function over items, each a task, pulled only while there is a place in the window. Part of duly.hpp.
// Keeps true: an item is destroyed once, after its run or instead of it; what the source throws reaches who asked, after the
// answers that were there.
#ifndef DULY_STREAM_HPP
#define DULY_STREAM_HPP

#include <cstddef>
#include <exception>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#if defined(__cpp_exceptions) && defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

#include "duly/pool.hpp"

namespace duly {
inline namespace DULY_HPP_NAMESPACE {

// Options of a stream: stream_options().window(8).task(task_options().timeout(2s)).
class stream_options {
public:
    // Items that are under way or wait to be taken, at least 1. Default: two a worker.
    stream_options &window(std::size_t value) {
        if (value == 0) wrong_ = "window(0)";
        options_.window = detail::option(value);
        return *this;
    }
    // Answers come as the items' tasks end, not in the order of the items.
    stream_options &unordered() {
        options_.flags |= DULY_STREAM_UNORDERED;
        return *this;
    }
    // The options of each item's task.
    stream_options &task(task_options value) {
        task_ = std::move(value);
        return *this;
    }

    // As duly.h takes them, but for `drop_item` and `task`.
    duly_stream_options native() const noexcept { return options_; }
    const task_options &task() const noexcept { return task_; }
    const char *wrong() const noexcept { return wrong_ ? wrong_ : task_.wrong(); }

private:
    duly_stream_options options_ = DULY_STREAM_OPTIONS_INIT;
    task_options task_;
    const char *wrong_ = nullptr;
};

namespace detail {

// What a function over items gives: F(Item) or F(Item, context &).
template <class F, class Item, class = void> struct over_item {
    using type = std::invoke_result_t<F &, Item>;
};
template <class F, class Item>
struct over_item<F, Item, std::enable_if_t<std::is_invocable_v<F &, Item, context &>>> {
    using type = std::invoke_result_t<F &, Item, context &>;
};

// The source of a stream; it outlives the handles of the stream, for duly drops it when no item needs it.
#if DULY_HPP_EXCEPTIONS
using failure_of_source = std::shared_ptr<std::exception_ptr>;
#else
using failure_of_source = std::nullptr_t;
#endif

template <class R, class Source, class F> struct over {
    using item = typename std::invoke_result_t<Source &>::value_type;

    // An item, on its way from the source to the function.
    struct one final : cell<R> {
        explicit one(item &&from) : item_(std::move(from)) {}
        void invoke(context &here) override {
            if constexpr (std::is_void_v<R>) {
                apply(here);
                this->value_.emplace();
            } else {
                this->value_.emplace(apply(here));
            }
        }
        void forget() noexcept override { item_.reset(); }
        decltype(auto) apply([[maybe_unused]] context &here) {
            if constexpr (std::is_invocable_v<F &, item, context &>) {
                return std::invoke(*function, std::move(*item_), here);
            } else {
                return std::invoke(*function, std::move(*item_));
            }
        }
        F *function = nullptr;
        std::optional<item> item_;
    };

    struct input {
        Source source;
        failure_of_source failed;
        __attribute__((no_sanitize("null"))) static bool next(void *data, void **out) {
            auto *me = static_cast<input *>(data);
#if DULY_HPP_EXCEPTIONS
            try {
#endif
                auto got = me->source();
                if (!got) return false;
                *out = static_cast<cell<R> *>(new one(std::move(*got)));
                return true;
#if DULY_HPP_EXCEPTIONS
            }
#if defined(__GLIBCXX__)
            // pthread_exit and thread cancellation: duly aborts with a message.
            catch (const abi::__forced_unwind &) {
                throw;
            }
#endif
            catch (...) {
                *me->failed = std::current_exception();
                return false;
            }
#endif
        }
        static void drop(void *data) noexcept { delete static_cast<input *>(data); }
    };

    struct function {
        F callable;
        static std::int32_t run(void *data, void *item, duly_call *call) {
            auto *me = static_cast<one *>(static_cast<cell<R> *>(item));
            me->function = &static_cast<function *>(data)->callable;
            return cell<R>::run(item, call);
        }
        static void drop(void *data) noexcept { delete static_cast<function *>(data); }
    };
};

} // namespace detail

// A function over items, each a task of a pool, of which only a window is pulled: an infinite source does no harm. Answers are
// asked for by one thread at a time. The last handle that goes cancels what is under way and drops the source.
template <class R> class stream : public detail::handle<duly_stream, duly_stream_retain, duly_stream_release> {
public:
    using handle::handle;

    // A stream over what Source() gives, a std::optional, until that is empty: it is called by whoever asks for an answer, and
    // never again after it was empty or threw. F(Item) or F(Item, duly::context &) is called by several threads at once. An empty
    // handle, with its code, if there is none: invalid_argument.
    template <class Source, class F>
    static stream make(const pool &where, const stream_options &options, Source &&source, F &&function,
                       std::error_code &code) {
        using over = detail::over<R, std::decay_t<Source>, std::decay_t<F>>;
        duly_stream *made = nullptr;
        if (options.wrong() || detail::is_null<std::decay_t<Source>>(source) || detail::is_null<std::decay_t<F>>(function)) {
            detail::leave(code, DULY_STATUS_INVALID_ARGUMENT);
            return {};
        }
        const duly_task_options each = options.task().native();
        duly_stream_options plain = options.native();
        plain.task = &each;
        plain.drop_item = &detail::cell<R>::drop;
#if DULY_HPP_EXCEPTIONS
        detail::failure_of_source failed = std::make_shared<std::exception_ptr>();
#else
        detail::failure_of_source failed = nullptr;
#endif
        auto input = std::unique_ptr<typename over::input>(new typename over::input{std::forward<Source>(source), failed});
        auto run = std::unique_ptr<typename over::function>(new typename over::function{std::forward<F>(function)});
        const duly_status status = duly_stream_new(where.native(), &plain, &over::input::next, input.get(), &over::input::drop,
                                                   &over::function::run, run.get(), &over::function::drop, &made);
        detail::leave(code, status);
        if (status != DULY_STATUS_OK) return {};
        (void)input.release();
        (void)run.release();
        return stream(made, std::move(failed));
    }

    // The next answer, at most that long: the item's task, ended already, for get() to give its value or throw; an empty handle:
    // there are no more; none without a code: timed out, nothing is lost. Error: the refusals of submit, which are the answer of
    // one item, and the next call goes on; invalid_argument, while another call is under way.
    std::optional<task<R>> next_for(span timeout, std::error_code &code) const noexcept {
        duly_task *answer = nullptr;
        const duly_status status = duly_stream_next(native(), timeout.nanoseconds(), &answer);
        detail::leave(code, status == DULY_STATUS_TIMED_OUT ? DULY_STATUS_OK : status);
        if (status != DULY_STATUS_OK) return std::nullopt;
        return task<R>(answer);
    }

#if DULY_HPP_EXCEPTIONS
    template <class Source, class F> stream(const pool &where, const stream_options &options, Source &&source, F &&function) {
        std::error_code code;
        *this = make(where, options, std::forward<Source>(source), std::forward<F>(function), code);
        const char *wrong = options.wrong();
        detail::require(code, "new stream" + (wrong ? std::string(", ") + wrong : std::string()));
    }

    // The same. What the source threw is thrown where there are no more answers, once.
    std::optional<task<R>> next_for(span timeout) const {
        std::error_code code;
        auto answer = next_for(timeout, code);
        detail::require(code, "next answer of a stream");
        if (answer && !*answer && failed_ && *failed_) std::rethrow_exception(std::exchange(*failed_, nullptr));
        return answer;
    }
    // Waits for the next answer; an empty handle: there are no more.
    task<R> next() const { return *next_for(forever); }

    // for (auto &answer : stream) use(answer.get());
    class iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = task<R>;
        using difference_type = std::ptrdiff_t;
        using pointer = task<R> *;
        using reference = task<R> &;
        task<R> &operator*() noexcept { return answer_; }
        task<R> *operator->() noexcept { return &answer_; }
        iterator &operator++() {
            answer_ = of_->next();
            return *this;
        }
        // Ended or not: two iterators of a stream are equal at its end only.
        friend bool operator!=(const iterator &one, const iterator &other) noexcept {
            return bool(one.answer_) || bool(other.answer_);
        }
        friend bool operator==(const iterator &one, const iterator &other) noexcept { return !(one != other); }

    private:
        friend class stream;
        explicit iterator(const stream *of) : of_(of) {}
        const stream *of_;
        task<R> answer_;
    };
    iterator begin() const {
        iterator first(this);
        ++first;
        return first;
    }
    iterator end() const noexcept { return iterator(this); }
#endif

private:
    stream(duly_stream *owned, detail::failure_of_source failed) noexcept : handle(owned), failed_(std::move(failed)) {}
    detail::failure_of_source failed_ = nullptr;
};

// A source of a stream: the elements of a container, moved out one by one.
template <class Container> auto each_of(Container container) {
    auto all = std::make_shared<Container>(std::move(container));
    return [all, at = std::begin(*all)]() mutable -> std::optional<std::decay_t<decltype(*std::begin(*all))>> {
        if (at == std::end(*all)) return std::nullopt;
        return std::move(*at++);
    };
}

#if DULY_HPP_EXCEPTIONS
// A stream whose answers are what the function gives.
template <class Source, class F> auto make_stream(const pool &where, const stream_options &options, Source &&source, F &&function) {
    using item = typename std::invoke_result_t<std::decay_t<Source> &>::value_type;
    using result = std::decay_t<typename detail::over_item<std::decay_t<F>, item>::type>;
    return stream<result>(where, options, std::forward<Source>(source), std::forward<F>(function));
}
#endif

} // namespace DULY_HPP_NAMESPACE
} // namespace duly

#endif
