// Uses memory after it is gone, on a worker. Not a test: ci/test-cpp runs it to show that AddressSanitizer is on and sees it.
// With an argument the scope keeps the memory until the callback is gone.
#include <chrono>
#include <cstdio>
#include <memory>

#include "duly.hpp"

int main(int count, char **) {
    const duly::pool pool;
    // volatile: so that the compiler does not see the fault before the sanitizer does.
    auto data = std::make_unique<volatile int>(1);
    volatile int *borrowed = data.get();
    if (count == 1) {
        data.reset();
        pool.submit([borrowed] { return *borrowed; }).get();
        std::puts("the planted fault was not seen");
    } else {
        duly::task_scope scope(pool);
        scope.submit([borrowed] { return *borrowed; });
    }
    (void)pool.shutdown(std::chrono::seconds(20));
}
