/* Runs a fuzz target without libFuzzer: every file of the corpus, then `COUNT` changed copies. `driver COUNT FILE...` */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILE_MAX = 1 << 16 };

static uint64_t state = 0x9e3779b97f4a7c15u;

static uint64_t next(void) { /* xorshift64: the same run every time */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

int main(int count, char **words) {
    if (count < 3)
        return 2;
    int files = count - 2;
    uint8_t **data = calloc((size_t)files, sizeof *data);
    size_t *sizes = calloc((size_t)files, sizeof *sizes);
    for (int i = 0; i < files; i++) {
        FILE *file = fopen(words[2 + i], "rb");
        data[i] = malloc(FILE_MAX);
        if (file == NULL || data[i] == NULL)
            return 2;
        sizes[i] = fread(data[i], 1, FILE_MAX, file);
        fclose(file);
        LLVMFuzzerTestOneInput(data[i], sizes[i]);
    }
    long runs = atol(words[1]);
    uint8_t *copy = malloc(FILE_MAX);
    for (long run = 0; run < runs; run++) {
        size_t chosen = next() % (size_t)files, size = sizes[chosen];
        memcpy(copy, data[chosen], size);
        for (uint64_t changes = next() % 8; size > 0 && changes > 0; changes--)
            copy[next() % (next() % 2 ? size : size < 96 ? size : 96)] = (uint8_t)(next() % 4 ? next() : next() % 2 ? 0 : 255);
        if (size > 0 && next() % 8 == 0)
            size = next() % size;
        uint8_t *tight = malloc(size + !size);
        memcpy(tight, copy, size);
        LLVMFuzzerTestOneInput(tight, size);
        free(tight);
    }
    for (int i = 0; i < files; i++)
        free(data[i]);
    free(data);
    free(sizes);
    free(copy);
    printf("%d files, %ld changed copies: nothing found\n", files, runs);
    return 0;
}
