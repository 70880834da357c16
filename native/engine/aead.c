#include "aead_library.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const struct aead_library *const LIBRARIES[] = {&aead_ipsec_mb, &aead_libcrypto}; /* fastest first */
enum { LIBRARY_COUNT = sizeof LIBRARIES / sizeof *LIBRARIES };

static const struct aead_library *chosen;
static pthread_mutex_t choosing = PTHREAD_MUTEX_INITIALIZER;

/* NIST, "The Galois/Counter Mode of Operation", appendix B, test cases 2 and 14: a block of zeros under a key of zeros. */
static bool knows_vectors(const struct aead_library *library) {
    static const struct {
        size_t key_length;
        uint8_t sealed[16], tag[AEAD_TAG];
    } VECTORS[] = {
        {16,
         {0x03, 0x88, 0xda, 0xce, 0x60, 0xb6, 0xa3, 0x92, 0xf3, 0x28, 0xc2, 0xb9, 0x71, 0xb2, 0xfe, 0x78},
         {0xab, 0x6e, 0x47, 0xd4, 0x2c, 0xec, 0x13, 0xbd, 0xf5, 0x3a, 0x67, 0xb2, 0x12, 0x57, 0xbd, 0xdf}},
        {32,
         {0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e, 0x07, 0x4e, 0xc5, 0xd3, 0xba, 0xf3, 0x9d, 0x18},
         {0xd0, 0xd1, 0xc8, 0xa7, 0x99, 0x99, 0x6b, 0xf0, 0x26, 0x5b, 0x98, 0xb5, 0xd4, 0x8a, 0xb9, 0x19}},
    };
    for (size_t i = 0; i < sizeof VECTORS / sizeof *VECTORS; i++) {
        uint8_t zeros[32] = {0}, data[16] = {0}, tag[AEAD_TAG];
        struct aead *aead = library->create(zeros, VECTORS[i].key_length, true);
        if (aead == NULL)
            return false;
        bool right = library->seal(aead, zeros, zeros, 0, data, data, sizeof data, tag) == 0 &&
                     memcmp(data, VECTORS[i].sealed, sizeof data) == 0 && memcmp(tag, VECTORS[i].tag, sizeof tag) == 0;
        library->destroy(aead);
        if (!right)
            return false;
    }
    return true;
}

/* What one seals the other opens, in place and not, with every length up to where vector code has its last turn, and a
 * changed tag is refused. */
static bool agrees(const struct aead_library *library, const struct aead_library *reference, size_t key_length) {
    enum { LONGEST = 2100, AAD = 12 };
    uint8_t key[32], nonce[AEAD_NONCE], aad[AAD], plain[LONGEST], sealed[LONGEST], tag[AEAD_TAG], expected[AEAD_TAG];
    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (uint8_t)(i * 31 + (i >> 5));
    memcpy(key, plain + 100, sizeof key);
    memcpy(nonce, plain + 200, sizeof nonce);
    memcpy(aad, plain + 300, sizeof aad);
    struct aead *seal = library->create(key, key_length, true), *open = library->create(key, key_length, false);
    struct aead *check = reference->create(key, key_length, false), *other = reference->create(key, key_length, true);
    bool right = seal != NULL && open != NULL && check != NULL && other != NULL;
    for (size_t length = 1; right && length <= LONGEST; length += length < 600 ? 1 : 97) {
        right = library->seal(seal, nonce, aad, sizeof aad, plain, sealed, length, tag) == 0 &&
                reference->open(check, nonce, aad, sizeof aad, sealed, length, tag) == 0 &&
                memcmp(sealed, plain, length) == 0 &&
                reference->seal(other, nonce, aad, sizeof aad, sealed, sealed, length, expected) == 0 &&
                memcmp(tag, expected, sizeof tag) == 0 &&
                library->open(open, nonce, aad, sizeof aad, sealed, length, tag) == 0 &&
                memcmp(sealed, plain, length) == 0;
        tag[length % AEAD_TAG] ^= 0x10;
        right = right && library->open(open, nonce, aad, sizeof aad, sealed, length, tag) != 0;
    }
    struct aead *const all[] = {seal, open};
    for (size_t i = 0; i < 2; i++)
        if (all[i] != NULL)
            library->destroy(all[i]);
    if (check != NULL)
        reference->destroy(check);
    if (other != NULL)
        reference->destroy(other);
    return right;
}

static bool works(const struct aead_library *library) {
    return library->load() && knows_vectors(library) && agrees(library, &aead_libcrypto, 16) &&
           agrees(library, &aead_libcrypto, 32);
}

const char *aead_choose(const char *name) {
    const struct aead_library *found = NULL;
    pthread_mutex_lock(&choosing);
    for (size_t i = 0; i < LIBRARY_COUNT && found == NULL; i++)
        if ((name == NULL || strcmp(name, LIBRARIES[i]->name) == 0) && works(LIBRARIES[i]))
            found = LIBRARIES[i];
    if (found != NULL)
        chosen = found;
    pthread_mutex_unlock(&choosing);
    return found != NULL ? found->name : NULL;
}

bool aead_is_chosen(void) { return chosen != NULL; }

static struct aead *aead_new(const uint8_t *key, size_t key_length, bool seal) {
    if (chosen == NULL || (key_length != 16 && key_length != 32))
        return NULL;
    struct aead *aead = chosen->create(key, key_length, seal);
    if (aead != NULL)
        aead->library = chosen;
    return aead;
}

struct aead *aead_new_seal(const uint8_t *key, size_t key_length) { return aead_new(key, key_length, true); }

struct aead *aead_new_open(const uint8_t *key, size_t key_length) { return aead_new(key, key_length, false); }

void aead_free(struct aead *aead) {
    if (aead != NULL)
        aead->library->destroy(aead);
}

int aead_seal(struct aead *aead, const uint8_t nonce[AEAD_NONCE], const uint8_t *aad, size_t aad_length,
              const uint8_t *plain, uint8_t *sealed, size_t length, uint8_t tag[AEAD_TAG]) {
    return aead->library->seal(aead, nonce, aad, aad_length, plain, sealed, length, tag);
}

int aead_open(struct aead *aead, const uint8_t nonce[AEAD_NONCE], const uint8_t *aad, size_t aad_length, uint8_t *data,
              size_t length, const uint8_t tag[AEAD_TAG]) {
    return aead->library->open(aead, nonce, aad, aad_length, data, length, tag);
}
