/* The outer IPv4 header of ESP as an IP protocol (50), which the engine writes and reads itself. */
#ifndef PHX_OUTER_H
#define PHX_OUTER_H

#include "drops.h"
#include "packet.h"

enum { OUTER_HEADER = 20, /* IPv4 without options */ OUTER_MAX = 65535 };

/* Puts the header before an ESP packet, which has OUTER_HEADER bytes of room there and fits OUTER_MAX. The header checksum is
 * left to the kernel. */
void outer_put(struct packet *packet, const struct outer *outer);

/* Takes the header off. */
enum drop outer_take(struct packet *packet, struct outer *outer);

#endif
