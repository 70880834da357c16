/* What a library must offer to compute for aead.h. */
#ifndef PHX_AEAD_LIBRARY_H
#define PHX_AEAD_LIBRARY_H

#include "aead.h"

/* First in each library's own structure. */
struct aead {
    const struct aead_library *library;
};

struct aead_library {
    const char *name;
    bool (*load)(void); /* false where it is not installed or does not fit this build or this CPU */
    struct aead *(*create)(const uint8_t *key, size_t key_length, bool seal); /* 16 or 32 bytes; NULL on failure */
    void (*destroy)(struct aead *aead);
    int (*seal)(struct aead *aead, const uint8_t nonce[AEAD_NONCE], const uint8_t *aad, size_t aad_length,
                const uint8_t *plain, uint8_t *sealed, size_t length, uint8_t tag[AEAD_TAG]);
    int (*open)(struct aead *aead, const uint8_t nonce[AEAD_NONCE], const uint8_t *aad, size_t aad_length, uint8_t *data,
                size_t length, const uint8_t tag[AEAD_TAG]);
};

extern const struct aead_library aead_libcrypto, aead_ipsec_mb;

#endif
