// duly for C++17 and later: header only, over duly.h; link with -lduly.
//
//     duly::pool pool(duly::pool_options().workers(4).default_timeout(2s));
//     duly::task<int> answer = pool.submit([] { return 6 * 7; });
//     std::printf("%d\n", answer.get());
//
// Conventions, kept by everything here:
//
// Callables  F(), F(duly::context &) or, from C++20, F(std::stop_token); moved in, so they may be move-only; called at most
//            once, on a worker. They own what they capture: a task may outlive the wait for it. Only a task_scope lends.
// Values     R is what F returns, by value. It moves to the first get(); later ones are told taken.
// Failures   An exception that leaves F makes the task failed; get() throws it again, the same object. Without exceptions:
//            context::fail. What is no C++ (pthread_exit, thread cancellation) aborts the process with a message.
// Outcomes   get() throws duly::failed, panicked, cancelled, deadline_exceeded, shed or abandoned: each a task_error.
// Refusals   A submit that is refused, and any call that did not do its work, throws duly::error, a std::system_error
//            whose code() compares with duly::status.
// Without    Each call that can fail has a form with a std::error_code & at its end, which throws nothing of duly's; the
// exceptions others are there only where exceptions are. -fno-exceptions and -fno-rtti are fine.
// Time       Any std::chrono::duration; negative ones end a wait at once and are refused elsewhere; duly::forever.
// Handles    Refcounted. Destroying one cancels nothing and never blocks. An empty one answers null_argument.
// Threads    Every function may be called from any thread, callbacks included, also on one handle by several threads at once;
//            only assigning, moving and destroying a handle object need its user alone, as with an int.
// Blocking   get, wait*, take, released_for, submit under the policy block, shutdown, the end of a task_scope; nothing else.
#ifndef DULY_HPP
#define DULY_HPP

#include "duly/admission.hpp"
#include "duly/callback.hpp"
#include "duly/completions.hpp"
#include "duly/context.hpp"
#include "duly/error.hpp"
#include "duly/group.hpp"
#include "duly/handle.hpp"
#include "duly/hooks.hpp"
#include "duly/log.hpp"
#include "duly/options.hpp"
#include "duly/periodic.hpp"
#include "duly/pool.hpp"
#include "duly/queue.hpp"
#include "duly/run.hpp"
#include "duly/single_flight.hpp"
#include "duly/span.hpp"
#include "duly/stream.hpp"
#include "duly/submits.hpp"
#include "duly/task.hpp"
#include "duly/task_scope.hpp"
#include "duly/token.hpp"
#include "duly/version.hpp"

#endif
