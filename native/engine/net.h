/* The network's side: batches of outer packets through one raw socket, which has IP_HDRINCL set. */
#ifndef PHX_NET_H
#define PHX_NET_H

#include "esp.h"

#include <netinet/in.h>

enum { NET_BATCH = 32 };

/* Waits for packets, then takes what is there, at most NET_BATCH. Their number, or a negative errno. */
int net_receive(int fd, struct packet *batch);

/* What became of one packet: 0, or the errno with which the kernel refused it. */
struct sending {
    struct packet *packet;
    struct in_addr destination;
    int error;
};

/* Sends all; `count` at most NET_BATCH. A packet that is refused does not hold up the next. */
void net_send(int fd, struct sending *sendings, int count);

#endif
