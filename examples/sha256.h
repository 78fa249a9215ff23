/* SHA-256 (FIPS 180-4), so that checksum.c needs a C compiler, libduly and nothing else. */
#ifndef SHA256_H
#define SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t state[8];
    uint64_t length;
    unsigned char block[64];
} sha256;

void sha256_init(sha256 *sum);
void sha256_update(sha256 *sum, const void *data, size_t length);
void sha256_finish(sha256 *sum, unsigned char digest[32]);

#endif
