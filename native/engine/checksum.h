/* The Internet checksum (RFC 1071). Sums are of 16-bit words as they lie in memory, whatever the byte order, and are folded at
 * the end: what is added must begin at an even distance from the beginning of what the checksum covers. */
#ifndef PHX_CHECKSUM_H
#define PHX_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* `sum` and `length` bytes more. */
uint64_t checksum_add(uint64_t sum, const uint8_t *data, size_t length);

/* `sum` and a 16-bit number in network order. */
uint64_t checksum_add16(uint64_t sum, uint16_t number);

/* The sum in 16 bits, not inverted, for memcpy to the packet. */
uint16_t checksum_fold(uint64_t sum);

#endif
