/* Why packets are dropped. Every packet that enters the data plane is either delivered or counted here, exactly once. */
#ifndef PHX_DROPS_H
#define PHX_DROPS_H

enum drop {
    DELIVER = 0,

    /* TUN -> net */
    OUT_MALFORMED, /* not an IPv4 or IPv6 packet of the length its header says */
    OUT_NO_POLICY, /* no outbound policy matches: the default; or it is IKE, which has no place in a tunnel */
    OUT_BLOCKED,   /* a block policy matches */
    OUT_NO_SA,     /* a policy matches, its SA is not there (yet) */
    OUT_LIFETIME,  /* the SA's hard limit of packets or bytes is reached */
    OUT_SEQUENCE,  /* the SA's sequence number space is used up (RFC 4303 section 3.3.3) */
    OUT_CIPHER,    /* the AEAD refused to seal */
    OUT_TOO_BIG,   /* the encapsulated packet does not fit a buffer or the device's MTU */
    OUT_SEND,      /* the raw socket refused the packet */

    /* net -> TUN */
    IN_MALFORMED,   /* outer or ESP or inner header, padding, or a length is wrong */
    IN_UNKNOWN_SPI, /* no SA with this SPI */
    IN_ADDRESS,     /* outer addresses are not the SA's */
    IN_REPLAY,      /* sequence number seen before or left of the window */
    IN_ICV,         /* the AEAD did not authenticate the packet */
    IN_LIFETIME,    /* the SA's hard limit of packets or bytes is reached */
    IN_DUMMY,       /* next header 59: traffic flow confidentiality (RFC 4303 section 2.6) */
    IN_PROTOCOL,    /* next header is neither 4 (IPv4) nor 41 (IPv6) */
    IN_NO_POLICY,   /* authenticated, but no inbound policy allows these inner addresses on this SA (RFC 4301 section 5.2); or IKE */
    IN_TUN,         /* the TUN device refused the packet */

    DROP_CAUSES
};

/* The cause's name as reports show it, or NULL if `cause` is not one. */
const char *drop_name(int cause);

#endif
