/* The TUN device's side: batches of inner packets. */
#ifndef PHX_TUN_H
#define PHX_TUN_H

#include "esp.h"

/* Waits for packets, then takes what is there, at most `max`, each with room for its ESP headers. Their number, or a
 * negative errno when the device is gone. The descriptor is non-blocking. */
int tun_read(int fd, struct packet *batch, int max);

/* 0, or a negative errno. */
int tun_write(int fd, const struct packet *packet);

#endif
