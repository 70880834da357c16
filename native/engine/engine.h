/* The data plane as its control side (core.py, through ctypes) sees it. */
#ifndef PHX_ENGINE_H
#define PHX_ENGINE_H

#include "tables.h"

#define PHX_API __attribute__((visibility("default")))

struct engine;

/* One direction of it (enum sa_direction), for the data plane's own files. */
struct side *engine_side(struct engine *engine, int direction);

/* Sizes in bytes of the structures that core.py mirrors, so that a stale build is noticed: 0 struct sa_config, 1 struct
 * sa_usage, 2 struct policy, 3 struct flow, 4 struct wiring; 0 for any other number. */
PHX_API size_t phx_size(int structure);

/* Chooses the library that computes for all engines made from now on (aead.h). Its name, or NULL. */
PHX_API const char *phx_aead(const char *name);

/* An engine with empty tables and no threads; it takes the fastest library if none was chosen. NULL if memory is short. */
PHX_API struct engine *phx_new(void);

/* Only for an engine that was never run: wipes and frees everything. */
PHX_API void phx_free(struct engine *engine);

/* What the packet threads are connected to. Mirrored in core.py. */
struct wiring {
    int32_t tun;            /* blocking, with IFF_VNET_HDR and a header of 10 bytes */
    int32_t net;            /* blocking: a raw socket, with IP_HDRINCL or without, or a UDP socket with UDP_GRO and IP_RECVTOS */
    int32_t event;          /* an eventfd that becomes readable when an SA reached a limit, a flow had no SA, or a thread failed */
    struct in_addr address; /* own */
    uint32_t port;          /* UDP port of both ends (RFC 3948); 0: ESP as an IP protocol */
    uint32_t batch;         /* messages taken from the network at once, 1 … 64 */
    uint32_t udp_offload;   /* whether the TUN takes and gives bundles of UDP packets (TUN_F_USO4) */
};

/* Starts the two packet threads, which never end while the process lives. 0 or a negative errno. */
PHX_API int phx_run(struct engine *engine, const struct wiring *wiring);

/* 0, or the errno for which a packet thread has given up. Then no packet passes any more in that direction. */
PHX_API int phx_failure(struct engine *engine);

PHX_API int phx_sa_add(struct engine *engine, int direction, const struct sa_config *config);
PHX_API int phx_sa_remove(struct engine *engine, int direction, uint32_t spi, uint32_t destination, struct sa_usage *last);
PHX_API int phx_sa_usage(struct engine *engine, int direction, uint32_t spi, uint32_t destination, struct sa_usage *usage);
PHX_API int phx_sa_limit(struct engine *engine, int direction, uint32_t spi, uint32_t destination,
                         const struct sa_limits *limits);
PHX_API int phx_policies(struct engine *engine, int direction, const struct policy *policies, size_t count);
PHX_API size_t phx_wanted(struct engine *engine, struct flow *flows, size_t max);

/* Number of causes, name of a cause (NULL for 0, which is no drop), and the counts, indexed by cause. */
PHX_API int phx_drop_causes(void);
PHX_API const char *phx_drop_name(int cause);
PHX_API void phx_drops(struct engine *engine, uint64_t *counts);

/* Four numbers, two for each thread in the order of enum sa_direction: for how many nanoseconds it had packets in hand, and how
 * often it was woken to take some. */
PHX_API void phx_work(struct engine *engine, uint64_t *counts);

/* One packet through the very code of the threads, for tests and fuzzers: `output` gets the result, `capacity` is its size.
 * The result's length, or minus the cause of the drop. */
PHX_API long phx_pass(struct engine *engine, int direction, const uint8_t *input, size_t length, uint8_t *output,
                      size_t capacity);

/* The same for what the TUN hands over (offload header and packet; `direction` out: ESP packets with outer headers come out)
 * and for packets that come in together (in: offload headers and packets for the TUN come out). Several packets lie one behind
 * the other in `input` and `output`, each after its length in four bytes. The length of the output, or -1 where it does not
 * fit or the input is not made so. */
PHX_API long phx_pass_many(struct engine *engine, int direction, const uint8_t *input, size_t length, uint8_t *output,
                           size_t capacity);

/* The parts that have published vectors or a reference of their own to be tested against. */
PHX_API int phx_gcm(int seal, const uint8_t *key, size_t key_length, const uint8_t nonce[12], const uint8_t *aad,
                    size_t aad_length, uint8_t *data, size_t length, uint8_t tag[16]);
PHX_API struct replay *phx_replay_new(uint32_t window, uint64_t top);
PHX_API void phx_replay_free(struct replay *replay);
/* Takes a packet whose 64-bit number is `sequence` and whose wire shows the low half: 1 and marked, or 0. A number that is
 * inferred wrongly does not authenticate. */
PHX_API int phx_replay_accept(struct replay *replay, uint64_t sequence);

#endif
