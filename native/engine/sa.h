/* One ESP security association: keys, sequence number or replay window, limits and what it has carried. */
#ifndef PHX_SA_H
#define PHX_SA_H

#include "aead.h"
#include "replay.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

enum { SA_SALT = 4, SA_KEY_MAX = 32 + SA_SALT };

enum sa_direction { SA_IN = 0, SA_OUT = 1 };

/* All limits of an SA; UINT64_MAX where there is none. Inner packets and inner bytes. */
struct sa_limits {
    uint64_t soft_packets, hard_packets, soft_bytes, hard_bytes;
};

/* What the control side installs. The layout is mirrored in core.py. */
struct sa_config {
    uint32_t spi; /* host order */
    uint32_t reqid;
    struct in_addr source, destination; /* outer */
    uint32_t window;                    /* packets, inbound only */
    uint32_t copy_dscp;                 /* outbound: the outer header gets the inner DSCP */
    uint64_t sequence;                  /* last number sent, or highest seen; 0 for a new key */
    struct sa_limits limits;
    uint32_t key_length; /* bytes, with the salt of RFC 4106 at its end: 20 or 36 */
    uint8_t key[SA_KEY_MAX];
};

/* What the control side reads. Mirrored in core.py. Times in whole seconds of CLOCK_REALTIME, 0 for never. */
struct sa_usage {
    uint64_t packets, bytes;
    uint64_t sequence;
    uint64_t replays, integrity_failures;
    uint64_t first_used, last_used;
    uint32_t soft, hard; /* whether a limit has been reached */
};

struct sa {
    struct sa *next; /* in its table's chain */
    uint32_t spi, reqid;
    struct in_addr source, destination;
    bool copy_dscp;
    struct aead *aead;
    uint8_t salt[SA_SALT];
    struct sa_limits limits;
    struct sa_usage usage; /* usage.sequence is the outbound counter */
    struct replay replay;
};

/* NULL if the configuration is impossible or memory is short. Keeps nothing of `config`'s key but the expanded form. */
struct sa *sa_new(enum sa_direction direction, const struct sa_config *config);

/* Wipes keys and salt. */
void sa_free(struct sa *sa);

/* Whether one more packet may use this SA. Sets usage.hard when not. */
bool sa_may_carry(struct sa *sa);

/* Counts a packet that was sealed or opened. True if it newly reached the soft limit. */
bool sa_count(struct sa *sa, uint64_t inner_bytes, uint64_t now);

#endif
