#include "tables.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct side *side_new(void) {
    struct side *side = calloc(1, sizeof *side);
    if (side != NULL)
        gate_init(&side->gate);
    return side;
}

void side_free(struct side *side) {
    for (size_t i = 0; i < TABLE_BUCKETS; i++)
        while (side->associations.buckets[i] != NULL) {
            struct sa *sa = side->associations.buckets[i];
            side->associations.buckets[i] = sa->next;
            sa_free(sa);
        }
    free(side->policies);
    free(side);
}

/* SPIs are random numbers of the receiver: their low bits spread well enough. An attacker cannot add entries. */
static struct sa **bucket_of(struct sa_table *table, uint32_t spi) { return &table->buckets[spi % TABLE_BUCKETS]; }

static struct sa **find(struct sa_table *table, uint32_t spi, struct in_addr destination) {
    struct sa **link = bucket_of(table, spi);
    while (*link != NULL && ((*link)->spi != spi || (*link)->destination.s_addr != destination.s_addr))
        link = &(*link)->next;
    return link;
}

/* Points each policy to the SA that its template names. Inside the gate, after either changed. */
static void bind_policies(struct side *side) {
    for (size_t i = 0; i < side->policy_count; i++) {
        struct bound_policy *bound = &side->policies[i];
        const struct policy *policy = &bound->policy;
        bound->sa = NULL;
        if (policy->action == POLICY_PROTECT && policy->spi != 0)
            bound->sa = *find(&side->associations, policy->spi, policy->tunnel_destination);
    }
}

int side_add(struct side *side, enum sa_direction direction, const struct sa_config *config) {
    struct sa *sa = sa_new(direction, config);
    if (sa == NULL)
        return -EINVAL;
    gate_enter(&side->gate);
    struct sa **link = find(&side->associations, sa->spi, sa->destination);
    bool taken = *link != NULL;
    if (!taken) {
        *link = sa;
        bind_policies(side);
    }
    gate_leave(&side->gate);
    if (taken)
        sa_free(sa);
    return taken ? -EEXIST : 0;
}

int side_remove(struct side *side, uint32_t spi, struct in_addr destination, struct sa_usage *last) {
    gate_enter(&side->gate);
    struct sa **link = find(&side->associations, spi, destination), *sa = *link;
    if (sa != NULL) {
        *link = sa->next;
        bind_policies(side);
    }
    gate_leave(&side->gate);
    if (sa == NULL)
        return -ESRCH;
    *last = sa->usage;
    sa_free(sa);
    return 0;
}

int side_usage(struct side *side, uint32_t spi, struct in_addr destination, struct sa_usage *usage) {
    gate_enter(&side->gate);
    struct sa *sa = *find(&side->associations, spi, destination);
    if (sa != NULL)
        *usage = sa->usage;
    gate_leave(&side->gate);
    return sa != NULL ? 0 : -ESRCH;
}

int side_limit(struct side *side, uint32_t spi, struct in_addr destination, const struct sa_limits *limits) {
    gate_enter(&side->gate);
    struct sa *sa = *find(&side->associations, spi, destination);
    if (sa != NULL) {
        sa->limits = *limits;
        sa->usage.soft = 0;
    }
    gate_leave(&side->gate);
    return sa != NULL ? 0 : -ESRCH;
}

static bool well_formed(const struct policy *policy) {
    unsigned bits = policy->family == AF_INET ? 32 : policy->family == AF_INET6 ? 128 : 0;
    return bits != 0 && policy->source_prefix <= bits && policy->destination_prefix <= bits;
}

int side_replace_policies(struct side *side, const struct policy *policies, size_t count) {
    if (count > POLICY_MAX)
        return -EINVAL;
    struct bound_policy *list = calloc(count + 1, sizeof *list);
    if (list == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        if (!well_formed(&policies[i])) {
            free(list);
            return -EINVAL;
        }
        list[i].policy = policies[i];
    }
    gate_enter(&side->gate);
    struct bound_policy *old = side->policies;
    side->policies = list;
    side->policy_count = count;
    memset(side->matches, 0, sizeof side->matches);
    bind_policies(side);
    gate_leave(&side->gate);
    free(old);
    return 0;
}

size_t side_take_wanted(struct side *side, struct flow *flows, size_t max) {
    size_t taken = 0;
    gate_enter(&side->gate);
    for (size_t i = 0; i < side->policy_count && taken < max; i++) {
        if (!side->policies[i].is_wanted)
            continue;
        side->policies[i].is_wanted = false;
        flows[taken++] = side->policies[i].wanted;
    }
    gate_leave(&side->gate);
    return taken;
}

void side_read_drops(struct side *side, uint64_t drops[DROP_CAUSES]) {
    gate_enter(&side->gate);
    for (int i = 0; i < DROP_CAUSES; i++)
        drops[i] += side->drops[i];
    gate_leave(&side->gate);
}

void side_count_drop(struct side *side, enum drop cause) {
    gate_enter(&side->gate);
    side->drops[cause]++;
    gate_leave(&side->gate);
}

static bool policy_matches(const struct policy *policy, const struct inner *inner) {
    return policy->family == inner->family &&
           prefix_matches(policy->destination, inner->destination, policy->destination_prefix) &&
           prefix_matches(policy->source, inner->source, policy->source_prefix);
}

static struct bound_policy *first_match(struct side *side, const struct inner *inner) {
    size_t bytes = inner->family == AF_INET ? 4 : 16;
    unsigned hash = 0;
    for (size_t i = 0; i < bytes; i++)
        hash = hash * 31 + inner->source[i] * 7u + inner->destination[i];
    struct match *match = &side->matches[hash % MATCHES];
    if (match->family == inner->family && memcmp(match->destination, inner->destination, bytes) == 0 &&
        memcmp(match->source, inner->source, bytes) == 0)
        return match->bound;
    match->family = inner->family;
    memcpy(match->source, inner->source, bytes);
    memcpy(match->destination, inner->destination, bytes);
    match->bound = NULL;
    for (size_t i = 0; i < side->policy_count && match->bound == NULL; i++)
        if (policy_matches(&side->policies[i].policy, inner))
            match->bound = &side->policies[i];
    return match->bound;
}

static void want(struct side *side, struct bound_policy *bound, const struct inner *inner, uint64_t now) {
    if (bound->wanted_at == now)
        return;
    size_t bytes = inner->family == AF_INET ? 4 : 16;
    bound->wanted_at = now;
    bound->is_wanted = true;
    bound->wanted = (struct flow){.policy = (uint32_t)(bound - side->policies), .family = (uint16_t)inner->family};
    memcpy(bound->wanted.source, inner->source, bytes);
    memcpy(bound->wanted.destination, inner->destination, bytes);
    side->notable = true;
}

static enum drop try_outbound(struct side *side, uint8_t *plain, size_t length, struct packet *wire, struct outer *outer,
                              uint64_t now) {
    struct inner inner;
    if (!inner_parse(plain, length, &inner) || inner.length != length)
        return OUT_MALFORMED;
    struct bound_policy *bound = first_match(side, &inner);
    if (bound == NULL || inner_is_ike(plain, &inner))
        return OUT_NO_POLICY;
    if (bound->policy.action != POLICY_PROTECT)
        return OUT_BLOCKED;
    struct sa *sa = bound->sa;
    if (sa == NULL) {
        want(side, bound, &inner, now);
        return OUT_NO_SA;
    }
    enum drop verdict = esp_encapsulate(sa, plain, &inner, wire, outer);
    if (verdict == DELIVER)
        side->notable |= sa_count(sa, inner.length, now);
    else if (sa->usage.hard)
        side->notable = true;
    return verdict;
}

enum drop outbound_packet(struct side *side, uint8_t *plain, size_t length, struct packet *wire, struct outer *outer,
                          uint64_t now) {
    enum drop verdict = try_outbound(side, plain, length, wire, outer, now);
    if (verdict != DELIVER)
        side->drops[verdict]++;
    return verdict;
}

/* RFC 4301 section 5.2 step 4: the SA that protected the packet must be the one that policy asks for. */
static bool inbound_allowed(struct side *side, const struct sa *sa, const struct inner *inner) {
    struct bound_policy *bound = first_match(side, inner);
    if (bound == NULL || bound->policy.action != POLICY_PROTECT)
        return false;
    const struct policy *policy = &bound->policy;
    return policy->reqid == sa->reqid && policy->tunnel_source.s_addr == sa->source.s_addr &&
           policy->tunnel_destination.s_addr == sa->destination.s_addr;
}

static enum drop try_inbound(struct side *side, struct packet *packet, const struct outer *outer, struct inner *inner,
                             uint64_t now) {
    uint32_t spi;
    enum drop verdict = esp_spi(packet, &spi);
    if (verdict != DELIVER)
        return verdict;
    /* By SPI alone, as the receiver chose it; esp_decapsulate then checks the addresses. */
    struct sa *sa = *bucket_of(&side->associations, spi);
    while (sa != NULL && sa->spi != spi)
        sa = sa->next;
    if (sa == NULL)
        return IN_UNKNOWN_SPI;
    verdict = esp_decapsulate(sa, packet, outer, inner);
    if (verdict == IN_LIFETIME)
        side->notable = true;
    if (verdict != DELIVER)
        return verdict;
    if (!inbound_allowed(side, sa, inner) || inner_is_ike(packet->data, inner))
        return IN_NO_POLICY;
    side->notable |= sa_count(sa, inner->length, now);
    return DELIVER;
}

enum drop inbound_packet(struct side *side, struct packet *packet, const struct outer *outer, struct inner *inner,
                         uint64_t now) {
    enum drop verdict = try_inbound(side, packet, outer, inner, now);
    if (verdict != DELIVER)
        side->drops[verdict]++;
    return verdict;
}

bool side_take_notable(struct side *side) {
    bool notable = side->notable;
    side->notable = false;
    return notable;
}
