/* The anti-replay window of an inbound SA with extended sequence numbers: RFC 4303 appendix A, as the ring of RFC 6479. */
#ifndef PHX_REPLAY_H
#define PHX_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

/* The ring has one word more than the largest window, so that moving on never clears a bit that still counts (RFC 6479
 * section 2); a power of two so that a mask finds the word. */
enum { REPLAY_WINDOW_MAX = 4096, REPLAY_RING_WORDS = 128 };

struct replay {
    uint64_t top; /* highest sequence number authenticated so far */
    uint32_t window;
    uint64_t ring[REPLAY_RING_WORDS];
};

/* `window` in packets, 1 … REPLAY_WINDOW_MAX. Everything up to `top` counts as seen. */
void replay_init(struct replay *replay, uint32_t window, uint64_t top);

/* The 64-bit number that the 32 bits on the wire stand for (RFC 4303 section A2.2). False where it would lie before 0 or
 * beyond 2^64 - 1. It is a guess until the packet is authenticated with it. */
bool replay_infer(const struct replay *replay, uint32_t low, uint64_t *sequence);

/* Whether a packet with this number may still come: in or right of the window and not seen. 0 never may. */
bool replay_fresh(const struct replay *replay, uint64_t sequence);

/* Marks a fresh number as seen. Only after the packet was authenticated. */
void replay_mark(struct replay *replay, uint64_t sequence);

#endif
