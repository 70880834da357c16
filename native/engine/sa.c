#include "sa.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

struct sa *sa_new(enum sa_direction direction, const struct sa_config *config) {
    if (config->key_length != 16 + SA_SALT && config->key_length != 32 + SA_SALT)
        return NULL;
    if (direction == SA_IN && (config->window == 0 || config->window > REPLAY_WINDOW_MAX))
        return NULL;
    struct sa *sa = calloc(1, sizeof *sa);
    if (sa == NULL)
        return NULL;
    size_t key_length = config->key_length - SA_SALT;
    sa->aead = direction == SA_OUT ? aead_new_seal(config->key, key_length) : aead_new_open(config->key, key_length);
    if (sa->aead == NULL) {
        free(sa);
        return NULL;
    }
    memcpy(sa->salt, config->key + key_length, SA_SALT);
    sa->spi = config->spi;
    sa->reqid = config->reqid;
    sa->source = config->source;
    sa->destination = config->destination;
    sa->copy_dscp = config->copy_dscp != 0;
    sa->limits = config->limits;
    sa->usage.sequence = config->sequence;
    if (direction == SA_IN)
        replay_init(&sa->replay, config->window, config->sequence);
    return sa;
}

void sa_free(struct sa *sa) {
    if (sa == NULL)
        return;
    aead_free(sa->aead);
    OPENSSL_cleanse(sa, sizeof *sa);
    free(sa);
}

bool sa_may_carry(struct sa *sa) {
    if (sa->usage.packets >= sa->limits.hard_packets || sa->usage.bytes >= sa->limits.hard_bytes)
        sa->usage.hard = 1;
    return !sa->usage.hard;
}

bool sa_count(struct sa *sa, uint64_t inner_bytes, uint64_t now) {
    struct sa_usage *usage = &sa->usage;
    usage->packets++;
    usage->bytes += inner_bytes;
    if (usage->first_used == 0)
        usage->first_used = now;
    usage->last_used = now;
    if (usage->soft || (usage->packets < sa->limits.soft_packets && usage->bytes < sa->limits.soft_bytes))
        return false;
    usage->soft = 1;
    return true;
}
