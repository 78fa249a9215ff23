// The header twice in one file, and in several files of one program (this one and header_alone.cc), which may be compiled by
// another standard, or without exceptions.
#include "duly.hpp"
#include "duly.hpp"

#include "check.hpp"

int header_alone();

TEST(p16_the_headers_stand_alone_and_in_two_files) {
    const auto pool = make_pool(small());
    CHECK(header_alone() == 0);
    end_pool(pool);
}
