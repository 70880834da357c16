/* A packet in its buffer, and the outer addresses that it has on the wire. */
#ifndef PHX_PACKET_H
#define PHX_PACKET_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

struct packet {
    uint8_t *buffer;
    size_t capacity;
    uint8_t *data;
    size_t length;
};

/* What the outer IPv4 header says, whoever writes and reads it: the engine on a raw socket, the kernel on a UDP socket. */
struct outer {
    struct in_addr source, destination;
    uint8_t traffic_class;
};

#endif
