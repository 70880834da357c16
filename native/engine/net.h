/* The network's side: ESP as IP protocol 50 through a raw socket, or in UDP (RFC 3948) through a socket with UDP_GRO, where up
 * to 64 packets of a train cross the kernel as one. */
#ifndef PHX_NET_H
#define PHX_NET_H

#include "esp.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

enum { NET_BATCH = 64, NET_SLOT = 65536 + 256, NET_CONTROL = 128 };

struct net {
    int fd;
    struct in_addr address; /* own */
    uint16_t port;          /* UDP port of both ends; 0: raw */
    bool segments;          /* UDP: the kernel cuts trains */
    bool header;            /* raw: outer headers are ours to write (IP_HDRINCL), not the kernel's */
};

/* What became of one packet: 0, or the errno with which the kernel refused it. */
struct sending {
    struct packet *packet;
    struct outer outer;
    int error;
};

/* Sends all, ESP packets with room for an outer header; `count` at most NET_BATCH. A packet that is refused does not hold up
 * the next. */
void net_send(struct net *net, struct sending *sendings, int count);

/* Memory for what comes in. */
struct arrivals {
    struct mmsghdr messages[NET_BATCH];
    struct iovec parts[NET_BATCH];
    struct sockaddr_in sources[NET_BATCH];
    uint8_t controls[NET_BATCH][NET_CONTROL] __attribute__((aligned(16)));
    bool udp;
    int max;   /* messages there is room for */
    int count; /* messages that came and are kept */
    int next;
    size_t at; /* within a message of several packets */
};

/* False if memory is short. `max` is at most NET_BATCH. */
bool arrivals_init(struct arrivals *arrivals, int max, bool udp);

/* Makes room: what came before is not needed any more. */
void arrivals_forget(struct arrivals *arrivals);

/* Waits for packets, then takes what is there. The number of messages, or a negative errno. */
int net_receive(const struct net *net, struct arrivals *arrivals);

/* Takes what is there now and keeps what came before. The number of messages that are new; 0 if there is none or no room. */
int net_receive_more(const struct net *net, struct arrivals *arrivals);

/* The next ESP packet of what came: DELIVER, the cause for which it is dropped, or -1 when there is no more. */
int net_next(const struct net *net, struct arrivals *arrivals, struct packet *packet, struct outer *outer);

#endif
