/* The data plane's view of SAD and SPD, one side per direction, each behind its gate. */
#ifndef PHX_TABLES_H
#define PHX_TABLES_H

#include "drops.h"
#include "esp.h"
#include "gate.h"
#include "sa.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TABLE_BUCKETS = 1024, POLICY_MAX = 4096, MATCHES = 256 };

enum policy_action { POLICY_PROTECT = 0, POLICY_BLOCK = 1 };

/* One policy. Mirrored in core.py. IPv4 addresses lie in the first four bytes. */
struct policy {
    uint16_t family; /* AF_INET or AF_INET6 */
    uint8_t source_prefix, destination_prefix;
    uint8_t source[16], destination[16];
    uint32_t action;
    /* The template. Outbound the SPI names the SA, 0 means there is none yet. Inbound the rest must fit the SA. */
    uint32_t spi, reqid;
    struct in_addr tunnel_source, tunnel_destination;
};

/* The flow that a packet without SA belonged to, for an ACQUIRE. Mirrored in core.py. */
struct flow {
    uint32_t policy; /* place in the list given to side_replace_policies */
    uint16_t family;
    uint8_t source[16], destination[16];
};

struct sa_table {
    struct sa *buckets[TABLE_BUCKETS];
};

struct bound_policy {
    struct policy policy;
    struct sa *sa;       /* outbound only; NULL if there is none with the template's SPI and destination */
    struct flow wanted;  /* outbound only */
    bool is_wanted;      /* a packet came and found no SA, and the control side has not been told */
    uint64_t wanted_at;  /* seconds; the control side is told at most once a second */
};

/* The policy that packets between two addresses last met. */
struct match {
    int family; /* 0: nothing is known */
    uint8_t source[16], destination[16];
    struct bound_policy *bound; /* NULL: none matches */
};

/* One direction. `policies` are in order of precedence. */
struct side {
    struct gate gate;
    struct sa_table associations;
    struct bound_policy *policies;
    size_t policy_count;
    struct match matches[MATCHES]; /* forgotten when policies change */
    uint64_t drops[DROP_CAUSES];
    bool notable; /* something for the control side happened: a limit, or a flow without SA */
};

struct side *side_new(void);
void side_free(struct side *side);

/* Control side; each enters the gate itself. Numbers returned are 0 or a negative errno. An SA is known by SPI and outer
 * destination. */
int side_add(struct side *side, enum sa_direction direction, const struct sa_config *config); /* EEXIST, EINVAL */
int side_remove(struct side *side, uint32_t spi, struct in_addr destination, struct sa_usage *last); /* ESRCH */
int side_usage(struct side *side, uint32_t spi, struct in_addr destination, struct sa_usage *usage); /* ESRCH */
int side_limit(struct side *side, uint32_t spi, struct in_addr destination, const struct sa_limits *limits); /* ESRCH */
int side_replace_policies(struct side *side, const struct policy *policies, size_t count); /* all at once; EINVAL, ENOMEM */
size_t side_take_wanted(struct side *side, struct flow *flows, size_t max);
void side_read_drops(struct side *side, uint64_t drops[DROP_CAUSES]); /* adds */
void side_count_drop(struct side *side, enum drop cause);

/* Packet threads, inside the gate. The verdict is already counted. `now` in seconds. Outbound the inner packet `plain` is
 * sealed into `wire` (esp_encapsulate); inbound the ESP packet becomes the inner one, in place. */
enum drop outbound_packet(struct side *side, uint8_t *plain, size_t length, struct packet *wire, struct outer *outer,
                          uint64_t now);
enum drop inbound_packet(struct side *side, struct packet *packet, const struct outer *outer, struct inner *inner,
                         uint64_t now);

/* Whether the control side has to look, once. Inside the gate. */
bool side_take_notable(struct side *side);

#endif
