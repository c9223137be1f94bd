/* replay_main.c: runs a fuzz target over files, so that a build without clang
 * replays the corpus: `target FILE...`, each whole and cut short in a dozen
 * places. Prints how many inputs ran. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (!file || fseek(file, 0, SEEK_END) != 0)
            return 2;
        long size = ftell(file);
        uint8_t *data = malloc(size > 0 ? (size_t)size : 1); /* exact size: an over-read is seen */
        rewind(file);
        if (!data || fread(data, 1, (size_t)size, file) != (size_t)size)
            return 2;
        fclose(file);
        fprintf(stderr, "%s\n", argv[i]); /* the last line names the input that crashed */
        for (long cut = 0; cut < size; cut += 1 + size / 12) {
            uint8_t *part = malloc(cut ? (size_t)cut : 1);
            if (!part)
                return 2;
            memcpy(part, data, (size_t)cut);
            LLVMFuzzerTestOneInput(part, (size_t)cut);
            free(part);
        }
        LLVMFuzzerTestOneInput(data, (size_t)size);
        free(data);
    }
    printf("%d inputs\n", argc - 1);
    return 0;
}
