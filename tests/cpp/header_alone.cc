// The header must need nothing before it.
#include "duly.hpp"

int header_alone();
int header_alone() {
    return static_cast<int>(duly::status::ok);
}
