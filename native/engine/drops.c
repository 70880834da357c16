#include "drops.h"

#include <stddef.h>

static const char *const NAMES[DROP_CAUSES] = {
    [OUT_MALFORMED] = "out_malformed", [OUT_NO_POLICY] = "out_no_policy",   [OUT_BLOCKED] = "out_blocked",
    [OUT_NO_SA] = "out_no_sa",         [OUT_LIFETIME] = "out_lifetime",     [OUT_SEQUENCE] = "out_sequence",
    [OUT_CIPHER] = "out_cipher",       [OUT_TOO_BIG] = "out_too_big",       [OUT_SEND] = "out_send",
    [IN_MALFORMED] = "in_malformed",   [IN_UNKNOWN_SPI] = "in_unknown_spi", [IN_ADDRESS] = "in_address",
    [IN_REPLAY] = "in_replay",         [IN_ICV] = "in_icv",                 [IN_LIFETIME] = "in_lifetime",
    [IN_DUMMY] = "in_dummy",           [IN_PROTOCOL] = "in_protocol",       [IN_NO_POLICY] = "in_no_policy",
    [IN_TUN] = "in_tun",
};

const char *drop_name(int cause) { return cause > DELIVER && cause < DROP_CAUSES ? NAMES[cause] : NULL; }
