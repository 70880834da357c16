/* Where TCP and UDP lie in an inner packet, and their checksums. */
#ifndef PHX_TRANSPORT_H
#define PHX_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    IPV4_HEADER = 20,
    IPV6_HEADER = 40,
    TCP_HEADER = 20,
    UDP_HEADER = 8,
    /* Offsets in IPv4, TCP and UDP headers. */
    IPV4_LENGTH = 2,
    IPV4_ID = 4,
    IPV4_FRAGMENT = 6,
    IPV4_DF = 0x4000, /* the field's value when nothing else is set */
    IPV4_PROTOCOL = 9,
    IPV4_CHECKSUM = 10,
    IPV4_ADDRESSES = 12,
    IPV6_LENGTH = 4,
    IPV6_PROTOCOL = 6,
    IPV6_ADDRESSES = 8,
    TCP_SEQUENCE = 4,
    TCP_ACK = 8,
    TCP_OFFSET = 12,
    TCP_FLAGS = 13,
    TCP_CHECKSUM = 16,
    UDP_DESTINATION = 2,
    UDP_LENGTH = 4,
    UDP_CHECKSUM = 6,
    TCP_FIN = 1,
    TCP_PSH = 8,
    TCP_ACK_FLAG = 16,
    TCP_CWR = 128,
};

static inline uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

static inline uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }

static inline void put16(uint8_t *at, uint16_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static inline void put32(uint8_t *at, uint32_t value) {
    put16(at, (uint16_t)(value >> 16));
    put16(at + 2, (uint16_t)value);
}

/* Sum of the pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1), whose length is that of transport header and data. */
uint64_t transport_pseudo(const uint8_t *ip, uint8_t protocol, size_t length);

/* Writes an IPv4 header's checksum. */
void ipv4_checksum(uint8_t *ip);

/* Length of the TCP or UDP header at `transport` of a packet of `length` bytes, or 0 if it is not whole. */
size_t transport_header(const uint8_t *packet, size_t transport, size_t length, uint8_t protocol);

#endif
