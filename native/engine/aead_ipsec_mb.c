/* Intel's Multi-Buffer Crypto for IPsec, which uses the CPU's vector AES where it has it. Found at run time: a host without
 * the package, or with another CPU, computes with libcrypto. */
#include "aead_library.h"

#if __has_include(<intel-ipsec-mb.h>)

#include <dlfcn.h>
#include <intel-ipsec-mb.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

struct mb {
    struct aead aead;
    aes_gcm_enc_dec_t transform;
    struct gcm_context_data context;
    struct gcm_key_data key __attribute__((aligned(64)));
};

static IMB_MGR *manager; /* only read once it is loaded */

/* The manager is a public structure that grows at its end: a library of the same major version is needed, not an older one. */
static bool fits(unsigned version) { return version >> 16 == IMB_VERSION_NUM >> 16 && version >= IMB_VERSION_NUM; }

static bool load(void) {
    if (manager != NULL)
        return true;
    void *library = dlopen("libIPSec_MB.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return false;
    unsigned (*version)(void) = (unsigned (*)(void))dlsym(library, "imb_get_version");
    IMB_MGR *(*allocate)(uint64_t) = (IMB_MGR * (*)(uint64_t)) dlsym(library, "alloc_mb_mgr");
    void (*initialise)(IMB_MGR *, IMB_ARCH *) = (void (*)(IMB_MGR *, IMB_ARCH *))dlsym(library, "init_mb_mgr_auto");
    if (version == NULL || allocate == NULL || initialise == NULL || !fits(version()))
        return false;
    IMB_MGR *made = allocate(0);
    if (made == NULL)
        return false;
    IMB_ARCH architecture = IMB_ARCH_NONE;
    initialise(made, &architecture);
    if (architecture == IMB_ARCH_NONE || architecture == IMB_ARCH_NOAESNI)
        return false;
    manager = made;
    return true;
}

static struct aead *create(const uint8_t *key, size_t key_length, bool seal) {
    struct mb *mb = aligned_alloc(64, (sizeof *mb + 63) / 64 * 64);
    if (mb == NULL)
        return NULL;
    if (key_length == 32) {
        manager->gcm256_pre(key, &mb->key);
        mb->transform = seal ? manager->gcm256_enc : manager->gcm256_dec;
    } else {
        manager->gcm128_pre(key, &mb->key);
        mb->transform = seal ? manager->gcm128_enc : manager->gcm128_dec;
    }
    return &mb->aead;
}

static void destroy(struct aead *aead) {
    OPENSSL_cleanse(aead, sizeof(struct mb));
    free(aead);
}

static int seal(struct aead *aead, const uint8_t nonce[AEAD_NONCE], const uint8_t *aad, size_t aad_length,
                const uint8_t *plain, uint8_t *sealed, size_t length, uint8_t tag[AEAD_TAG]) {
    struct mb *mb = (struct mb *)aead;
    mb->transform(&mb->key, &mb->context, sealed, plain, length, nonce, aad, aad_length, tag, AEAD_TAG);
    return 0;
}

static int open(struct aead *aead, const uint8_t nonce[AEAD_NONCE], const uint8_t *aad, size_t aad_length, uint8_t *data,
                size_t length, const uint8_t tag[AEAD_TAG]) {
    struct mb *mb = (struct mb *)aead;
    uint8_t found[AEAD_TAG];
    mb->transform(&mb->key, &mb->context, data, data, length, nonce, aad, aad_length, found, AEAD_TAG);
    return CRYPTO_memcmp(found, tag, AEAD_TAG) == 0 ? 0 : -1;
}

#else

static bool load(void) { return false; }

#define create NULL
#define destroy NULL
#define seal NULL
#define open NULL

#endif

const struct aead_library aead_ipsec_mb = {"ipsec-mb", load, create, destroy, seal, open};
