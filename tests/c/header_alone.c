/* The header must need nothing before it. */
#include "duly.h"
#ifdef __cplusplus
extern "C"
#else
DULY_API
#endif
int header_alone(void);
int header_alone(void) {
    return duly_status_name(DULY_STATUS_OK) == NULL;
}
