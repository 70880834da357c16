#include "checksum.h"

#include <arpa/inet.h>
#include <string.h>

/* Compiled for the vector units there may be; the loader picks. Sanitizers and clang take the plain one. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
__attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3")))
#endif
static uint64_t
add_words(const uint8_t *data, size_t words) {
    uint64_t sum = 0;
    for (size_t i = 0; i < words; i++) {
        uint32_t word;
        memcpy(&word, data + 4 * i, sizeof word);
        sum += word;
    }
    return sum;
}

uint64_t checksum_add(uint64_t sum, const uint8_t *data, size_t length) {
    uint32_t rest = 0;
    memcpy(&rest, data + length / 4 * 4, length % 4);
    return sum + add_words(data, length / 4) + rest;
}

uint64_t checksum_add16(uint64_t sum, uint16_t number) { return sum + htons(number); }

uint16_t checksum_fold(uint64_t sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}
